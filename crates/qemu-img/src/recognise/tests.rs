use super::*;

/// What QEMU 10.0.2 says, its names taken out, and what that means after a write.
#[test]
fn recorded_words() {
    let check = |said: &str, expected: Kind, after: Effect| {
        assert_eq!((kind(said), effect(said)), (expected, after), "{said}");
    };
    let (none, unknown) = (Effect::None, Effect::Unknown);
    let lock =
        "qemu-img: Could not open '': Failed to get \"write\" lock\nIs another process using the image []?\n";
    check(lock, Kind::Locked, none);
    check("qemu-img: Could not open '': Image is not in qcow2 format\n", Kind::Corrupt, none);
    check(
        "qemu-img: Could not open '': qcow2: Image is corrupt; cannot be opened read/write",
        Kind::Corrupt,
        none,
    );
    check("qemu-img: Could not open '': qcow2 header too short", Kind::Corrupt, none);
    check("qemu-img: Could not open '': Unsupported cluster size: 2^0", Kind::Corrupt, none);
    check("qemu-img: Could not open '': Unknown driver ''", Kind::Unsupported, none);
    check("qemu-img: Could not open '': Permission denied", Kind::Failed, none);
    check("qemu-img: Could not open '': Could not open '': No such file or directory", Kind::NotFound, none);
    let marking = "qcow2: Marking image as corrupt: Refblock offset 0x7f00 unaligned; further corruption events will be \
                   suppressed\nqemu-img: Could not create snapshot '': Input/output error\n";
    check(marking, Kind::Corrupt, unknown);
    check("qemu-img: Could not create snapshot '': No space left on device", Kind::NoSpace, unknown);
    check("qemu-img: Could not create snapshot '': Operation not supported", Kind::Unsupported, none);
    check("qemu-img: Could not create snapshot '': Invalid argument", Kind::Failed, unknown);
    let missing = "qemu-img: Could not apply snapshot '': Failed to load snapshot: No such file or directory";
    check(missing, Kind::NotFound, none);
    check("qemu-img: Could not delete snapshot '': snapshot not found", Kind::NotFound, none);
    check("qemu-img: This image format does not support checks", Kind::Unsupported, none);
    check("qemu-img: Backing file not supported for file format 'raw'", Kind::Unsupported, none);
    check("", Kind::Failed, unknown);
}
