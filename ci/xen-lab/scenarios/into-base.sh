# A disk stands on a file that somebody else made. xl's configuration goes on naming the image above it, so that nothing goes down into that file,
# also when it is named: this is said before anything is changed.
guest pv
try xl destroy g
mv "$(image a)" "$RUN/base.qcow2"
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 "$(image a)"
start
goes_on
stands_on a 1
snap_ends 5 flatten g --into-base "$RUN/base.qcow2"
grep -q 'goes on naming' "$RUN/error" || fail 'it does not say why'
goes_on
stands_on a 1
is_sound_below

# What is read from below can go up all the same.
snap flatten g
goes_on
stands_on a 0
is_sound_below
before=$(count)
mark
try xl reboot g
found "$before" 999999999
