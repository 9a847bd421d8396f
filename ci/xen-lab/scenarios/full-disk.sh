# A full disk in dom0: what fails leaves nothing, and the guest goes on.
mkdir -p "$RECORDS"
mount -t tmpfs -o size=24M,mode=700 xlsnap "$RECORDS"
guest pv

# Not enough for the memory: seen before anything is done.
snap_ends '1 5' create g one --memory
has_snapshots
is_sound
goes_on

# It fills up while the memory is saved.
mount -o remount,size=140M "$RECORDS"
fill() {
    until [ -n "$(find "$RECORDS" -type f -size +1M)" ]; do sleep 0.02; done
    head -c 120M /dev/zero > "$RECORDS/filled" 2>/dev/null
}
fill &
snap_ends '1 6' create g one --memory
wait
rm "$RECORDS/filled"
snap recover g
has_snapshots
is_sound
assert 'g runs' is_on
goes_on

# Now there is room.
taken one --memory
reverted g one
has_snapshots one
is_sound
