# xlsnap is killed at each of its records while it reverts: afterwards the guest is as before or as in the snapshot.
guest pv
taken one --memory
mark
number=1
while killed_at $number revert g one; do
    recovered
    assert 'g runs' is_on
    goes_on
    has_snapshots one
    is_sound
    number=$((number + 1))
    mark
done
[ $number -gt 1 ] || fail 'it was not killed in the middle'
say "it was killed $((number - 1)) times"
went_back "$LOW" "$HIGH" "$TOKEN"
is_sound
