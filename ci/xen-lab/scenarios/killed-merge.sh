# xlsnap is killed at its records while the QEMU of a running guest merges what it writes to: the merge is brought to its end under it.
guest pv
killed=0
for number in 1 2 3 4; do
    taken "s$number" --external xvda
    killed_at $number delete g "s$number" || break
    killed=$number
    recovered
    assert 'g runs' is_on
    goes_on
    is_sound_below
done
[ $killed -gt 0 ] || fail 'it was not killed in the middle'
say "it was killed $killed times"
reboots
