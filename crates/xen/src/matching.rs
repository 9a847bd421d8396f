//! Which of QEMU's nodes a disk of Xen's is.
//!
//! QEMU's half of a PV disk names its node `<dev>-<driver>` (`xvda-qcow2`). An HVM guest has each disk twice in QEMU, once in the
//! emulated machine and once as Xen's, each a tree of nodes of its own on the same file with a cache of its own. A snapshot that is taken
//! through the tree that the guest does not write to is lost, with leaked clusters, when the other one writes its metadata
//! (measured, QEMU 7.2). So where both are there, the state of Xen's backend decides, and a doubt is a refusal.

use xlsnap_qmp_transport::commands::{BlockDevice, BlockNode};

use crate::GuestKind;
use crate::vbd::{Backend, Vbd};

/// Where a disk is in QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// By this name: a node's, or a drive's id.
    Node(String),
    /// Nowhere that a snapshot could be taken; why, as a clause.
    Nowhere(String),
}

/// Whether two names are one file: [`same_file`], or a stand-in.
pub type SameFile<'a> = &'a dyn Fn(&str, &str) -> bool;

/// Whether a device is Xen's half of the disk by QEMU's own word, whatever its node is called: after a merge that is not tidied yet it
/// has the node of the image below.
pub type IsHalf<'a> = &'a dyn Fn(&BlockDevice) -> bool;

/// Where `vbd` is among what QEMU calls its block devices.
pub fn place(
    vbd: &Vbd,
    kind: GuestKind,
    devices: &[BlockDevice],
    same: SameFile<'_>,
    is_half: IsHalf<'_>,
) -> Place {
    if let Backend::Other(kind) = &vbd.backend {
        return Place::Nowhere(format!(
            "its backend is {kind}, and only QEMU's (qdisk) takes snapshots; give it backendtype=qdisk in the domain's \
             configuration, or leave it out"
        ));
    }
    let name = node_name(vbd);
    let of = |device: &&BlockDevice, test: &dyn Fn(&BlockDevice, &BlockNode) -> bool| {
        device.inserted.as_ref().is_some_and(|node| test(device, node))
    };
    let by = |test: &dyn Fn(&BlockDevice, &BlockNode) -> bool| -> Vec<&BlockDevice> {
        devices.iter().filter(|device| of(device, test)).collect()
    };
    let is_xens = |node: &BlockNode| node.node_name.as_deref().is_some_and(|found| is_named_for(found, vbd));
    let xens = by(&|device, node| device.device.is_empty() && (is_xens(node) || is_half(device)));
    // An unplugged one has no device any more, if QEMU still shows it at all.
    let emulated = by(&|device, node| {
        !device.device.is_empty() && device.qdev.is_some() && same(&node.file, &vbd.image)
    });
    let xens = match xens[..] {
        [] => None,
        [device] => Some(device),
        _ => return Place::Nowhere(format!("QEMU has two nodes {name}")),
    };
    if let Some(node) = xens.and_then(|device| device.inserted.as_ref())
        && node.node_name.as_deref() == Some(&name)
        && !same(&node.file, &vbd.image)
    {
        return Place::Nowhere(format!(
            "QEMU's node {name} has the image {:?}, and xenstore says {:?}",
            node.file, vbd.image
        ));
    }
    match (kind, xens, &emulated[..]) {
        (_, None, []) => Place::Nowhere(absent(vbd, devices, same)),
        (GuestKind::Pv | GuestKind::Pvh, Some(_), []) => Place::Node(name),
        (GuestKind::Pv | GuestKind::Pvh, ..) => Place::Nowhere(
            "QEMU has its image in an emulated disk, which such a guest cannot have".to_owned(),
        ),
        (GuestKind::Hvm, _, [_, _, ..]) => {
            Place::Nowhere("QEMU has its image in two emulated disks".to_owned())
        }
        (GuestKind::Hvm, Some(_), []) => Place::Node(name),
        (GuestKind::Hvm, None, [drive]) => Place::Node(drive.device.clone()),
        // Xen's half is not connected, so that the guest uses the emulated disk.
        (GuestKind::Hvm, Some(_), [drive]) if vbd.state < Vbd::CONNECTED => Place::Node(drive.device.clone()),
        (GuestKind::Hvm, Some(_), [drive]) => Place::Nowhere(format!(
            "QEMU has it twice, as {name} and as {}, and the guest may write to both (its backend's state is {}); let the guest \
             unplug the emulated disk, or leave the disk out",
            drive.device, vbd.state
        )),
    }
}

/// The node's name in Xen's half of QEMU.
fn node_name(vbd: &Vbd) -> String {
    format!("{}-{}", vbd.name, vbd.format.driver())
}

/// Whether Xen's half of the disk has a node of this name: QEMU's own name for it, or ours of one that it was given.
pub(crate) fn is_named_for(node: &str, vbd: &Vbd) -> bool {
    node == node_name(vbd) || xlsnap_qemu::is_given(node, &vbd.name)
}

/// Why QEMU has no node of a disk.
fn absent(vbd: &Vbd, devices: &[BlockDevice], same: SameFile<'_>) -> String {
    let mut nodes = devices.iter().filter_map(|device| device.inserted.as_ref());
    let on_top = nodes.find(|node| node.backing_file.as_deref().is_some_and(|base| same(base, &vbd.image)));
    match on_top {
        Some(node) => format!(
            "QEMU has the image {:?} on top of it, which Xen's toolstack does not know; commit that image first",
            node.file
        ),
        None => format!(
            "QEMU has not opened its image {:?}, although xenstore has it; see the domain's log of QEMU",
            vbd.image
        ),
    }
}

/// Whether two names are one file.
pub fn same_file(a: &str, b: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |name: &str| {
        let found = std::path::Path::new(name).is_absolute().then(|| std::fs::metadata(name).ok())??;
        Some((found.dev(), found.ino()))
    };
    a == b || identity(a).is_some_and(|a| identity(b) == Some(a))
}
