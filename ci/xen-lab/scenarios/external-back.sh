# Back and forth between external snapshots of a PV guest without memory: it is destroyed, and starts on new images.
guest pv
taken one --external xvda,xvdb
first=$HIGH
taken two --external xvda
stands_on a 2
stands_on b 1
low=$LOW high=$HIGH
mark
snap revert g one --running
found 1 "$first"
is_sound_below
mark
snap revert g two --running
found "$low" "$high"
is_sound_below
names_are one two
