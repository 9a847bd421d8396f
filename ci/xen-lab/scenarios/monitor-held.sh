# Each of QEMU's monitors has one client. While others have them, nothing is done by halves.
hold() {
    python3 "$here/lib/qmp.py" "$(monitor "$1")" --hold > "$RUN/held" &
    HELD+=" $!"
    wait_until "$1 is held" grep -q held "$RUN/held"
    rm "$RUN/held"
}
let_go() {
    kill $HELD
    wait $HELD || true
    HELD=
}

guest pv
hold libxl
taken one
has_snapshots one
hold libxenstat
snap_ends 4 create g two
snap_ends 4 create g two --memory
has_snapshots one
is_on
goes_on
let_go
taken two --memory
has_snapshots one two
is_sound
try xl destroy g

# xl itself cannot save an HVM guest while its monitor is held.
rm -rf "$RECORDS" "${RUN:?}"/*
guest hvm
hold libxl
snap_ends '1 4' create g one --memory
let_go
has_snapshots
is_sound
goes_on
