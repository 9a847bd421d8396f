# Data goes up into what a running guest writes to, and the layer of the snapshot stays beside until that is deleted.
guest pv
taken one --external xvda,xvdb
snap flatten g
goes_on
stands_on a 0
stands_on b 0
is_sound_below
names_are one
mark
snap revert g one --running
found 1 "$HIGH"
is_sound_below
snap delete g one
goes_on
is_sound_below
