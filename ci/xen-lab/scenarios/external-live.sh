# The QEMU of a running guest moves data between the layers of its disks: in the middle, at the root, and from what it writes to.
if boots_pvh; then
    guest pvh
else
    guest pv
fi
for name in one two three; do
    taken $name --external xvda,xvdb
done
stands_on a 3
left=2
for name in two one three; do
    snap delete g $name
    goes_on
    stands_on a $left
    stands_on b $left
    is_sound_below
    left=$((left - 1))
done
names_are

# What it writes to has Xen's name, so that libxl starts it from that.
reboots
