# What xlsnap does on a Xen host, by hand: the lab is tried with it before xlsnap is.

# The node of a guest's disk a or b: of a PV guest by its backend's name, of an HVM guest without PV drivers by IDE's.
node() {
    case $(kind "$1")$2 in
        pv*) echo "xvd$2-qcow2" ;;
        hvma) echo ide0-hd0 ;;
        hvmb) echo ide0-hd1 ;;
    esac
}

monitor() { echo "/run/xen/qmp-libxl-$(xl domid "$1")"; }

# save_by_hand NAME TAG: memory and disks of one instant.
save_by_hand() {
    try xl save -p "$1" "$RUN/$1-$2.save"
    assert "$1 is paused" is_paused "$1"
    local disk actions=
    for disk in a b; do
        actions+=",{\"type\": \"blockdev-snapshot-internal-sync\","
        actions+=" \"data\": {\"device\": \"$(node "$1" $disk)\", \"name\": \"$2\"}}"
    done
    try python3 "$here/lib/qmp.py" "$(monitor "$1")" \
        "{\"execute\": \"transaction\", \"arguments\": {\"actions\": [${actions#,}]}}"
    try xl unpause "$1"
}

# revert_by_hand NAME TAG DISK...
revert_by_hand() {
    local name=$1 tag=$2 disk
    shift 2
    try xl destroy "$name"
    for disk; do
        try qemu-img snapshot -a "$tag" "$(image "$name" "$disk")"
    done
    mark "$name"
    try xl restore "$RUN/$name-$tag.save"
}

# cycle_by_hand KIND: snapshot, go on, revert, go on from there. And a revert that forgets a disk, which the guest must see.
cycle_by_hand() {
    local low high token
    guest "$1" g
    low=$(count g)
    save_by_hand g one
    high=$(count g)
    token=$(token g)
    goes_on g
    revert_by_hand g one a b
    went_back g "$low" "$high" "$token"
    try xl destroy g
    local disk
    for disk in a b; do
        try qemu-img check "$(image g $disk)"
        assert "disk $disk has the snapshot" test "$(tags "$(image g $disk)")" = one
    done

    start g
    goes_on g
    revert_by_hand g one a
    wait_until 'the guest sees that disk b is another' 60 disagrees g
}

disagrees() { said "$1" | grep DISAGREE; }
