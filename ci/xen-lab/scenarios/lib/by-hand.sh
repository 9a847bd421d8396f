# What xlsnap does on a Xen host, by hand: the lab is tried with it before xlsnap is.

# The node of disk a or b: of a PV guest by Xen's name, of an HVM guest without PV drivers by IDE's.
node() {
    case $(kind)-$1 in
        pv-*) echo "xvd$1-qcow2" ;;
        hvm-a) echo ide0-hd0 ;;
        hvm-b) echo ide0-hd1 ;;
    esac
}

# Memory and disks of one instant.
save_by_hand() {
    try xl save -p g "$RUN/save"
    assert 'g is paused' is_paused
    local disk actions=
    for disk in a b; do
        actions+=",{\"type\": \"blockdev-snapshot-internal-sync\","
        actions+=" \"data\": {\"device\": \"$(node $disk)\", \"name\": \"one\"}}"
    done
    try python3 "$here/lib/qmp.py" "$(monitor)" \
        "{\"execute\": \"transaction\", \"arguments\": {\"actions\": [${actions#,}]}}"
    try xl unpause g
}

# revert_by_hand DISK...
revert_by_hand() {
    local disk
    try xl destroy g
    for disk; do
        try qemu-img snapshot -a one "$(image "$disk")"
    done
    mark
    try xl restore "$RUN/save"
}

# cycle_by_hand KIND: snapshot, go on, revert, go on from there. And a revert that forgets a disk, which the guest must see.
cycle_by_hand() {
    local low high token disk
    new_guest "$1"
    low=$(count)
    save_by_hand
    high=$(count)
    token=$(token)
    goes_on
    revert_by_hand a b
    went_back "$low" "$high" "$token"
    try xl destroy g
    for disk in a b; do
        try qemu-img check "$(image $disk)"
        assert "disk $disk has the snapshot" test "$(tags "$(image $disk)")" = one
    done

    mark
    try xl restore "$RUN/save"
    wait_until 'the guest sees that its disks are others' disagrees
    revert_by_hand a
    wait_until 'the guest sees that disk b is another' disagrees
}

disagrees() { said | grep DISAGREE; }
