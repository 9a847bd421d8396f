# A disk stands on a file that somebody else made: what the running guest writes goes down into it, once it is named for that. It takes the image's
# name, which xl's configuration has.
guest pv
try xl destroy g
mv "$(image a)" "$RUN/base.qcow2"
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 "$(image a)"
start
goes_on
stands_on a 1
base=$(stat -c %i "$RUN/base.qcow2")
snap flatten g --into-base "$RUN/base.qcow2"
goes_on
stands_on a 0
assert 'the base has the name' test "$(stat -c %i "$(image a)")" = "$base"
assert 'it left its own' test ! -e "$RUN/base.qcow2"
is_sound_below
reboots

# What takes the writes is the domain's own since then.
taken one --external xvda
snap delete g one
goes_on
stands_on a 0
is_sound_below
