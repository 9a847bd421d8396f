# An external snapshot of a running PV guest: the new images have the names that xl's configuration has, so that a reboot starts from
# what was written last. Then back, and back and forth.
guest pv
taken one --external xvda,xvdb
stands_on a 1
stands_on b 1
is_sound_below

# libxl builds the disks of a rebooted guest from its own configuration.
before=$(count)
mark
try xl reboot g
found "$before" 999999999
is_sound_below

taken two --external xvda,xvdb
stands_on a 2
low=$LOW high=$HIGH

# It is destroyed and started on a new image, which stands on what the first snapshot left.
mark
snap revert g one --running
[ "$(counts | head -n 1)" ] || wait_until 'g counts' has_ticked
found 1 "$before"
is_sound_below
mark
snap revert g two --running
found "$low" "$high"
is_sound_below
names_are one two
