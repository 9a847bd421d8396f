# xlsnap is killed at each of its records while it deletes: afterwards the snapshot is there wholly or not at all.
guest pv
number=1
snap create g s1
while killed_at $number delete g "s$number"; do
    recovered
    is_sound
    number=$((number + 1))
    snap create g "s$number"
done
[ $number -gt 1 ] || fail 'it was not killed in the middle'
say "it was killed $((number - 1)) times"
is_sound
goes_on
