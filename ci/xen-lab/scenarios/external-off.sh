# External snapshots of a domain that is off: made, gone back to, merged; the image's name leads xl to what was written last.
guest pv
# What is never seen to run is not known when it is off.
taken inside
before=$(count)
try xl destroy g
snap create g one --external xvda,xvdb
snap create "$(uuid)" two --external xvda
stands_on a 2
stands_on b 1
is_sound_below

snap revert g one --offline
assert 'g stays off' is_off
stands_on a 1
snap revert g two --offline
stands_on a 2
is_sound_below

snap delete g one
snap delete g two
stands_on a 0
stands_on b 0
names_are inside
is_sound_below
start
found 1 $((before + 30))
