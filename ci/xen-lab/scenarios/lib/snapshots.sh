# xlsnap, its records, and what is in the images.

# The snapshots in an image, on one line.
tags() { qemu-img info -U --output=json "$1" | jq -r '[.snapshots[]?.name] | sort | join(" ")'; }

# snap WORDS...: xlsnap must do it.
snap() { try xlsnap "$@"; }

# snap_ends CODE WORDS...: xlsnap must end with CODE (docs/errors.md).
snap_ends() {
    local code=$1 status=0
    shift
    try xlsnap "$@" || status=$?
    [ $status = "$code" ] || fail "xlsnap $1 ended with $status, and $code was expected"
}

# The names of a domain's snapshots by its records, on one line.
names() { xlsnap list "$1" --json | jq -r '[.domains[0].snapshots[].name] | sort | join(" ")'; }

# has_snapshots NAME TAG...: the records have just these, and so have both images.
has_snapshots() {
    local name=$1 domain disk wanted
    domain=$(config_uuid "$name")
    shift
    wanted=$(printf '%s\n' "$@" | sort | paste -sd ' ')
    [ "$(names "$domain")" = "$wanted" ] || fail "the records of $name are '$(names "$domain")', not '$wanted'"
    # A live HVM guest's images are written late.
    [ "$(kind "$name")" = pv ] || is_off "$name" || return 0
    for disk in a b; do
        [ "$(tags "$(image "$name" $disk)")" = "$wanted" ] ||
            fail "disk $disk of $name has '$(tags "$(image "$name" $disk)")', not '$wanted'"
    done
}

# The snapshot's memory file.
memory_of() { xlsnap show "$1" "$2" --json | jq -r '.snapshot.memory.file? // .snapshot.memory // empty'; }

# The files of memory that are left of all domains.
memory_files() { find "$RECORDS" -type f -size +1M; }

# is_sound NAME: nothing is at risk.
is_sound() { snap check "$(config_uuid "$1")"; }
