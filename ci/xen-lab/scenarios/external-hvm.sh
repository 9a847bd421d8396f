# An HVM guest's disk is open twice in its QEMU, and cannot be given another image while it runs: refused by name. Off it works.
guest hvm
snap_ends 5 create g one --external hda,hdb
grep -q 'open twice' "$RUN/error" || fail 'it does not say why'
assert 'g runs' is_on
goes_on
before=$(count)
try xl destroy g
snap create g one --external hda,hdb
stands_on a 1
is_sound_below
start
goes_on
is_sound_below
# Back to it while it runs.
mark
snap revert g one --running
found 1 $((before + 30))
is_sound_below
