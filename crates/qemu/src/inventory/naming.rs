//! Names for disks that no description names.

use std::collections::HashSet;

use xlsnap_types::model::DiskName;

use super::attached::Attached;

/// The most bytes of QEMU's name that are kept: a disk's name has 64 at most, and a number may follow.
const KEPT: usize = 58;

/// A name for each disk, each used once and none of `taken`: of the `-drive`, else of the device, the export or the node.
pub(crate) fn names<'a>(disks: &[Attached], taken: impl IntoIterator<Item = &'a DiskName>) -> Vec<DiskName> {
    let mut used: HashSet<String> = taken.into_iter().map(DiskName::to_string).collect();
    let named = disks.iter().map(|disk| {
        let word = word(best_name(disk));
        let numbered = (2u64..).map(|n| format!("{word}-{n}"));
        let name = std::iter::once(word.clone()).chain(numbered).find(|name| used.insert(name.clone()));
        DiskName::new(name.expect("numbers do not end")).expect("a word is a disk's name")
    });
    named.collect()
}

fn best_name(disk: &Attached) -> &str {
    let node = disk.medium.as_ref().map(|medium| medium.node.as_str()).filter(|node| !node.starts_with('#'));
    let names = [disk.drive.as_deref(), device_id(disk), disk.export.as_deref(), node];
    names.into_iter().flatten().next().unwrap_or("disk")
}

/// Whether the disk is known by its node alone: an overlay, which is another node, would give it another name.
pub(super) fn is_named_by_node(disk: &Attached) -> bool {
    disk.drive.is_none() && device_id(disk).is_none() && disk.export.is_none()
}

/// The id in `/machine/peripheral/vda/virtio-backend`; a device without an id has none.
pub(super) fn device_id(disk: &Attached) -> Option<&str> {
    let path = disk.device.as_deref()?;
    if !path.contains('/') {
        return Some(path);
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    parts.find(|part| *part == "peripheral")?;
    parts.next()
}

/// Whether the guest has the disk as the flash memory of its firmware: `-drive if=pflash`, or `-machine pflash1=NODE`.
pub(super) fn is_flash(disk: &Attached) -> bool {
    let numbered = |name: &str, word: &str| {
        name.strip_prefix(word).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let device = disk.device.as_deref().and_then(|path| path.rsplit(['/', '.']).next());
    device.is_some_and(|name| numbered(name, "flash"))
        || disk.drive.as_deref().is_some_and(|name| numbered(name, "pflash"))
}

/// `name` with everything that a disk's name can't have made a dash.
fn word(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let dashed: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).take(KEPT).collect();
    let word = dashed.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if word.is_empty() { "disk".into() } else { word.into() }
}
