# Back to the first, and forth to the second.
guest pv
taken one --memory
first=("$LOW" "$HIGH" "$TOKEN")
taken two --memory
second=("$LOW" "$HIGH" "$TOKEN")
has_snapshots one two
snap list g --tree

LOW=${first[0]} HIGH=${first[1]} TOKEN=${first[2]}
reverted g one
has_snapshots one two
taken three
snap list g --tree
snap delete g one

# Past the time of two, for its counts to be known again.
LOW=${second[0]} HIGH=${second[1]} TOKEN=${second[2]}
wait_until 'g is past two' is_past $((HIGH + 10))
reverted g two
has_snapshots two three
is_sound
