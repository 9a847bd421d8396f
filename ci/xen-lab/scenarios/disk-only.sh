# Without memory: the disks are of one instant, and the guest starts on them as after a power cut.
guest pv
taken one
has_snapshots one
is_sound

# While it runs.
mark
snap revert g one --running
found "$LOW" "$HIGH"
is_sound

# While it is off.
try xl destroy g
snap revert "$(uuid)" one --offline
assert 'g stays off' is_off
start
found "$LOW" "$HIGH"
snap delete g one
has_snapshots
is_sound
