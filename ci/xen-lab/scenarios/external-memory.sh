# External snapshots of a running PV guest with its memory: it goes on from there, back and forth between two.
guest pv load
taken one --memory --external xvda,xvdb
low=$LOW high=$HIGH token=$TOKEN
taken two --memory --external xvda
stands_on a 2
stands_on b 1
is_sound_below
mark
snap revert g one
went_back "$low" "$high" "$token"
is_sound_below
# Past the time of two, for its counts to be known again.
wait_until 'g is past two' is_past $((HIGH + 10))
reverted g two
is_sound_below

# Its QEMU has the files open: the records go, and what no snapshot needs stays until the domain is off.
snap delete g one
names_are two
wait_until 'g is past two' is_past $((HIGH + 10))
reverted g two
is_sound_below
