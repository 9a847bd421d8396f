# A disk that takes no snapshots is refused by its name, before anything is done.
guest pv raw
snap_ends 5 create g one --memory
assert 'the disk is named' grep -q xvdc "$RUN/error"
snap_ends 5 create g one
has_snapshots
goes_on
taken one --memory --exclude xvdc
has_snapshots one
reverted g one
is_sound
