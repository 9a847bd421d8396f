# xlsnap, its records, and what is in the images.

# snap WORDS...: xlsnap must do it.
snap() { try xlsnap "$@"; }

# snap_ends CODES WORDS...: xlsnap must end with one of CODES (docs/errors.md). What it said is in $RUN/error.
snap_ends() {
    local codes=$1 status=0
    shift
    try xlsnap "$@" 2> "$RUN/error" || status=$?
    cat "$RUN/error" >&2
    [[ " $codes " == *" $status "* ]] || fail "xlsnap $1 ended with $status, and $codes was expected"
}

# The snapshots in an image, on one line.
tags() { qemu-img info -U --output=json "$1" | jq -r '[.snapshots[]?.name] | sort | join(" ")'; }

# The snapshots that the records have, on one line.
names() { xlsnap list "$(uuid)" --json | jq -r '[.domains[].snapshots[].name] | sort | join(" ")'; }

# has_snapshots NAME...: the records have just these, and so have both images.
has_snapshots() {
    local wanted names disk tags
    wanted=$(printf '%s\n' "$@" | sort | paste -sd ' ')
    names=$(names)
    [ "$names" = "$wanted" ] || fail "there are records of '$names', not of '$wanted'"
    agree_with_images
}

# The images have what the records have. Those of an HVM guest are written late while it is on.
agree_with_images() {
    local disk tags names
    [ "$(kind)" != hvm ] || is_off || return 0
    names=$(names)
    for disk in a b; do
        tags=$(tags "$(image $disk)")
        [ "$tags" = "$names" ] || fail "disk $disk has '$tags', and there are records of '$names'"
    done
}

# Every file that could be memory belongs to a snapshot that has memory.
no_memory_is_left_over() {
    local file
    find "$RECORDS" -type f -size +1M | while read -r file; do
        xlsnap list "$(uuid)" --json | jq -e --arg name "$(basename "$file" .save)" \
            '.domains[].snapshots[] | select(.memory and .name == $name)' >/dev/null ||
            fail "$file belongs to no snapshot"
    done
}

# Nothing is at risk, and nothing is left of anything.
is_sound() {
    snap check "$(uuid)"
    agree_with_images
    no_memory_is_left_over
    [ -z "$(find "$RECORDS" -name 'journal.json' -o -name '.xlsnap-new-*')" ] || fail 'something is left in the records'
}

# stands_on DISK NUMBER: so many layers are below the image of a or b.
stands_on() {
    local below
    below=$(qemu-img info -U --backing-chain --output=json "$(image "$1")" | jq length)
    [ "$below" = "$(($2 + 1))" ] || fail "disk $1 stands on $((below - 1)) layers, not on $2"
}

# names_are NAME...: the records that there are.
names_are() {
    local wanted names
    wanted=$(printf '%s\n' "$@" | sort | paste -sd ' ')
    names=$(names)
    [ "$names" = "$wanted" ] || fail "there are records of '$names', not of '$wanted'"
}

# The same as is_sound of external snapshots, whose states are in other files.
is_sound_below() {
    snap check "$(uuid)"
    no_memory_is_left_over
    [ -z "$(find "$RECORDS" -name 'journal.json' -o -name '.xlsnap-new-*')" ] || fail 'something is left in the records'
    [ -z "$(find "$RUN" -name '.xls-*')" ] || fail 'a file waits for its name still'
}

# When the last snapshot was taken: the guest's count before and after, and its token.
LOW='' HIGH='' TOKEN=''

# taken NAME OPTION...: makes a snapshot; the guest goes on.
taken() {
    LOW=$(count)
    TOKEN=$(token)
    snap create g "$@"
    HIGH=$(count)
    assert 'g runs' is_on
    goes_on
}

# reboots: xl starts the guest from what it wrote last.
reboots() {
    local before
    before=$(count)
    mark
    try xl reboot g
    found "$before" 999999999
    is_sound_below
}

# reverted DOMAIN NAME OPTION...: with its memory.
reverted() {
    mark
    snap revert "$@"
    went_back "$LOW" "$HIGH" "$TOKEN"
}

# memory_cycle: create with memory, go on, revert, go on from there, delete.
memory_cycle() {
    taken one --memory
    has_snapshots one
    snap show g one
    is_sound
    reverted g one
    assert 'g is not paused' test "$(xl list g | awk 'NR == 2 {print substr($5, 3, 1)}')" = -
    is_sound
    has_snapshots one
    snap delete g one
    has_snapshots
    is_sound
    goes_on
}

# external_memory_cycle: two external snapshots with memory; back to each, on from there, and the first is merged away.
external_memory_cycle() {
    taken one --memory --external xvda,xvdb
    local low=$LOW high=$HIGH token=$TOKEN
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

    # Its QEMU merges what no snapshot needs any more.
    snap delete g one
    goes_on
    names_are two
    is_sound_below
    reverted g two
    is_sound_below
}

# killed_at NUMBER WORDS...: xlsnap is killed as soon as it has put its NUMBER-th file in its place (docs/formats.md): its
# journal, a record. Status 1 if it ended well before.
killed_at() {
    local number=$1 calls=rename,renameat,renameat2 tracer call status=0
    shift
    rm -f "$RUN/trace"
    mkfifo "$RUN/trace"
    say "\$ xlsnap $* # killed after file $number"
    # It waits after each, so that it is met there. What it starts is not followed: that goes on.
    strace -o "$RUN/trace" -e trace=$calls -e inject=$calls:delay_exit=1000000 xlsnap "$@" </dev/null &
    tracer=$!
    while read -r call; do
        [[ $call == *'".xlsnap-new-'* ]] || continue
        number=$((number - 1))
        [ $number != 0 ] || { say "killed after $call"; pkill -KILL -P $tracer -x xlsnap; }
    done < "$RUN/trace"
    wait $tracer || status=$?
    case $status in
        # Where this machine was busy for so long, it went on after its file.
        0) [ $number -le 0 ] ;;
        137) ;;
        *) fail "xlsnap ended with $status" ;;
    esac
}

# recovered: what a killed xlsnap left is brought to its end. Something that it started may still be at work.
recovered() { wait_until 'it is recovered' snap recover "$(uuid)"; }
