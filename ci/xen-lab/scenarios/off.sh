# A domain that is off: xl does not know it any more, its records do.
guest pv
taken one --memory
try xl destroy g
snap list "$(uuid)"
snap create "$(uuid)" two
has_snapshots one two
is_sound
reverted "$(uuid)" one
has_snapshots one two
try xl destroy g

# By its name, which its records remember.
reverted g one
snap domain list
snap delete g two
has_snapshots one
is_sound
