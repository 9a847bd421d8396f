# xlsnap is killed at its records while it takes an external snapshot of a running guest: the snapshot is there or not, and the guest goes on.
guest pv
killed=0
for number in 1 2 3; do
    killed_at $number create g "s$number" --external xvda || break
    killed=$number
    recovered
    assert 'g runs' is_on
    goes_on
    is_sound_below
done
[ $killed -gt 0 ] || fail 'it was not killed in the middle'
say "it was killed $killed times"
reboots
