# xlsnap is killed at each of its records while it takes an external snapshot of a running guest.
guest pv
number=1
while killed_at $number create g one --external xvda,xvdb; do
    recovered
    assert 'g runs' is_on
    goes_on
    is_sound_below
    if [ "$(names)" = one ]; then
        snap delete g one --no-merge
    fi
    number=$((number + 1))
done
[ $number -gt 1 ] || fail 'it was not killed in the middle'
say "it was killed $((number - 1)) times"
names_are one
before=$(count)
mark
try xl reboot g
found "$before" 999999999
is_sound_below
