# The file system of the images is full: no disk has the snapshot, and the guest goes on.
mount -t tmpfs -o size=20M,mode=700 images "$RUN"
guest pv
WRONG='DISAGREE|panic|Oops'
head -c 20M /dev/zero > "$RUN/filled" 2>/dev/null || true
snap_ends '1 6' create g one
rm "$RUN/filled"
snap recover g
has_snapshots
is_sound
goes_on
taken one
has_snapshots one
try xl destroy g
# QEMU may leave a cluster over of what it could not write (status 3), and no more than that.
for disk in a b; do
    status=0
    try qemu-img check "$(image $disk)" || status=$?
    [[ $status == [03] ]] || fail "disk $disk is damaged: qemu-img check ended with $status"
done
