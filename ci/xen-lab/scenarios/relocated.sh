# The files below the disks' images are moved to another directory, and everything that names them follows; the images themselves have
# to stay where xl's configuration names them.
guest pv
taken one --external xvda,xvdb
taken two --external xvda,xvdb
try xl destroy g
mkdir "$RUN/slow"
mv "$RUN"/a.*-1.qcow2 "$RUN"/b.*-1.qcow2 "$RUN/slow"
snap_ends 7 check "$(uuid)"
snap check "$(uuid)" --relocate "$RUN=$RUN/slow"
is_sound_below
start
goes_on
mark
snap revert g one --running
found 1 "$HIGH"
is_sound_below

try xl destroy g
mv "$(image a)" "$RUN/slow"
snap_ends 5 check "$(uuid)" --relocate "$RUN=$RUN/slow"
grep -q 'xl starts the domain' "$RUN/error" || fail 'it does not say why'
mv "$RUN/slow/a.qcow2" "$(image a)"
is_sound_below

# Memory is followed too: by what it is, whatever its name.
start
goes_on
taken three --memory
memory=$(xlsnap show g three --json | jq -r .snapshot.memory)
mv "$memory" "$RUN/slow/three.save"
snap_ends 7 check g
snap check g --relocate "$memory=$RUN/slow/three.save"
is_sound_below
reverted g three
