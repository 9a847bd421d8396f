# External snapshots of a domain that is off: made, gone back to, merged.
guest pv
taken inside
low=$LOW high=$HIGH
try xl destroy g
snap create g one --external xvda,xvdb
stands_on a 1
is_sound_below
start
goes_on
before=$(count)
try xl destroy g
snap create g two --external xvda,xvdb
stands_on a 2

snap revert g one --offline
assert 'g stays off' is_off
start
found "$low" "$before"
is_sound_below
try xl destroy g
snap revert g two --offline
start
found "$before" 999999999

# While it runs the layers stay; off they become one again, and the last has the name.
snap delete g one
is_sound_below
try xl destroy g
snap delete g two
stands_on a 0
stands_on b 0
is_sound_below
start
found "$before" 999999999
