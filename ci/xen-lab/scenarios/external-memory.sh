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

# On to a time that it has hardly reached again; its disks are what its memory says, or it cries.
snap revert g two
wait_until "g counts from $LOW on" is_past "$LOW"
goes_on
is_sound_below

# Its QEMU has the files open: the records go, and what no snapshot needs stays until the domain is off.
snap delete g one
names_are two
is_sound_below
