//! The nodes of images that a device was given in place of another.

use xlsnap_types::model::DiskName;

use super::attached::Medium;

/// What their names begin with.
const PREFIX: &str = "xls-swap-";

/// The longest disk's name that is in a node's as it is: QEMU allows 31 bytes.
const LONGEST: usize = 16;

/// A name that no node has yet.
pub(crate) fn free_name(disk: &DiskName, is_taken: impl Fn(&str) -> bool) -> String {
    let names = (0_u32..).map(|n| format!("{}{n}", prefix(disk)));
    names.into_iter().find(|name| !is_taken(name)).expect("numbers do not end")
}

/// Whether a disk's device was given the node of this name in place of another one, while QEMU lived.
pub fn is_given(node: &str, disk: &DiskName) -> bool {
    let number = node.strip_prefix(&prefix(disk));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether it is an empty node that the disk's device has in place of an image that QEMU was made to close.
pub(crate) fn is_stand_in(medium: &Medium, disk: &DiskName) -> bool {
    medium.driver == "null-co" && is_given(&medium.node, disk)
}

fn prefix(disk: &DiskName) -> String {
    let name = disk.as_str();
    if name.len() <= LONGEST {
        return format!("{PREFIX}{name}-");
    }
    // FNV-1a: the same in each run.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{PREFIX}{hash:016x}-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_short_and_its_disks() {
        let disk = |name: &str| DiskName::new(name).expect("a name");
        let long = "a-very-long-name-of-a-disk-which-qemu-would-not-take";
        for name in ["vda", "0123456789abcdef", long] {
            let node = free_name(&disk(name), |node| node.ends_with("-0"));
            assert!(node.ends_with("-1") && node.len() <= 29, "{node}");
            assert!(is_given(&node, &disk(name)) && !is_given(&node, &disk("vd")), "{node}");
        }
        assert!(!is_given("xls-swap-vda-", &disk("vda")) && !is_given("xls-swap-vda-b-0", &disk("vda")));
    }
}
