# An external snapshot of a running PV guest: the new images have the names that xl's configuration has, so that a reboot starts from
# what was written last.
guest pv
taken one --external xvda,xvdb
stands_on a 1
stands_on b 1
is_sound_below

# libxl builds the disks of a rebooted guest from its own configuration.
reboots
snap delete g one
names_are
is_sound_below
