# xlsnap is killed at each of its records while it makes a snapshot with memory: afterwards it is there wholly or not at
# all, and the guest goes on.
guest pv
number=1
while killed_at $number create g "s$number" --memory; do
    recovered
    is_sound
    assert 'g runs' is_on
    goes_on
    snap_ends '0 3' delete g "s$number"
    number=$((number + 1))
done
[ $number -gt 3 ] || fail 'it was not killed in the middle'
say "it was killed $((number - 1)) times"
has_snapshots "s$number"
goes_on
