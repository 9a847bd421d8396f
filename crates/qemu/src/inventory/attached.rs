//! The disks that a QEMU has, whatever they are called elsewhere.

use std::collections::HashSet;
use std::path::Path;

use xlsnap_orchestrator::Bitmap;
use xlsnap_qmp_transport::commands::{
    BlockDevice, BlockExport, BlockGraph, BlockJobInfo, BlockNode, CacheMode, DirtyBitmap, ImageInfo,
    SnapshotInfo,
};

use super::file_name::{self, ImageName};
use super::jobs::{self, Jobs};
use crate::revertible::{self, OpenFiles};

/// A device, a drive or an export with its image.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The id of a `-drive`.
    pub(crate) drive: Option<String>,
    /// The id of the device, or its path in QEMU.
    pub(crate) device: Option<String>,
    /// The id of the export.
    pub(crate) export: Option<String>,
    pub(crate) removable: bool,
    /// `None` when it is empty.
    pub(crate) medium: Option<Medium>,
}

/// What is in it.
#[derive(Debug)]
pub(crate) struct Medium {
    /// The node that commands are given: they take a node name or a drive's id, never a device's.
    pub(crate) node: String,
    pub(crate) file: String,
    pub(crate) driver: String,
    /// The files below it, nearest first.
    pub(crate) chain: Vec<String>,
    pub(crate) read_only: bool,
    pub(crate) active: bool,
    pub(crate) virtual_size: u64,
    pub(crate) data_file: bool,
    pub(crate) encrypted: bool,
    /// Those with a name.
    pub(crate) bitmaps: Vec<Bitmap>,
    /// Why the image is not just the file `file`.
    pub(crate) detour: Option<String>,
    pub(crate) corrupt: bool,
    /// The filter that is on top of the image, by its driver.
    pub(crate) filter: Option<String>,
    /// The job that works on it.
    pub(crate) job: Option<String>,
    pub(crate) cache: CacheMode,
    pub(crate) detect_zeroes: Option<String>,
    pub(crate) snapshots: Vec<SnapshotInfo>,
}

/// Drivers of QEMU that pass reads and writes on to one other node. `*-top` are those of jobs.
const FILTERS: [&str; 8] = [
    "throttle",
    "copy-on-read",
    "copy-before-write",
    "preallocate",
    "blkdebug",
    "mirror_top",
    "commit_top",
    "compress",
];

/// The disks of a machine. `active` is for those of which QEMU does not say whether they are.
pub(crate) fn of_machine(
    devices: Vec<BlockDevice>,
    active: bool,
    jobs: &[BlockJobInfo],
    graph: Option<&BlockGraph>,
) -> Vec<Attached> {
    let jobs = Jobs::new(jobs, graph);
    let attached = |device: BlockDevice| Attached {
        medium: device.inserted.map(|node| Medium::new(node, &device.device, active, &jobs)),
        drive: Some(device.device).filter(|id| !id.is_empty()),
        device: device.qdev,
        export: None,
        removable: device.removable,
    };
    devices.into_iter().map(attached).collect()
}

/// The disks of a storage daemon: what it exports, or else every node that is whole in itself.
pub(crate) fn of_daemon(
    mut nodes: Vec<BlockNode>,
    exports: &[BlockExport],
    jobs: &[BlockJobInfo],
    graph: Option<&BlockGraph>,
) -> Vec<Attached> {
    let jobs = Jobs::new(jobs, graph);
    let roots = graph.map(jobs::roots);
    let mut exported = HashSet::new();
    let mut tops: Vec<(&str, Option<&str>)> = exports
        .iter()
        .filter(|export| exported.insert(export.node_name.as_str()))
        .map(|export| (export.node_name.as_str(), Some(export.id.as_str())))
        .collect();
    // Nodes have no order of their own that means something to people.
    let mut others: Vec<&str> = roots.into_iter().flatten().filter(|root| !exported.contains(root)).collect();
    others.sort_unstable();
    tops.extend(others.into_iter().map(|root| (root, None)));

    let files: Vec<(String, Option<String>)> =
        nodes.iter().map(|node| (node.file.clone(), node.backing_file.clone())).collect();
    let mut disks = Vec::new();
    for (top, export) in tops {
        let Some(mut at) = nodes.iter().position(|node| node.node_name.as_deref() == Some(top)) else {
            continue;
        };
        let filter = is_filter(&nodes[at].drv).then(|| nodes[at].drv.clone());
        if filter.is_some() {
            // The image below a filter is the node of the same file that has a format.
            let file = file_name::parse(&nodes[at].file).file;
            let has_format = |node: &BlockNode| !is_filter(&node.drv) && !is_protocol(&node.drv);
            let below = |node: &BlockNode| has_format(node) && file_name::parse(&node.file).file == file;
            at = nodes.iter().position(below).unwrap_or(at);
        }
        let node = nodes.swap_remove(at);
        let chain = chain_of(&node, &files);
        let mut medium = Medium::new(node, "", true, &jobs);
        if medium.node.starts_with('#') {
            // A name of QEMU's own, such as below a filter: people gave the one on top.
            top.clone_into(&mut medium.node);
        }
        medium.filter = filter;
        medium.chain = chain;
        disks.push(Attached {
            drive: None,
            device: None,
            export: export.map(str::to_owned),
            removable: false,
            medium: Some(medium),
        });
    }
    disks
}

impl Attached {
    /// Whether it is more than a node.
    pub(crate) fn is_served(&self) -> bool {
        self.drive.is_some() || self.device.is_some() || self.export.is_some()
    }

    /// Why the device cannot be given another image while its process lives.
    pub(crate) fn no_swap(&self) -> Option<String> {
        if self.device.is_none() {
            return Some("no guest's device has it".to_owned());
        }
        if self.removable {
            return Some("its medium can be taken out".to_owned());
        }
        self.medium.as_ref().map_or_else(|| Some("its drive is empty".to_owned()), Medium::no_swap)
    }
}

impl Medium {
    fn new(node: BlockNode, drive: &str, active: bool, jobs: &Jobs<'_>) -> Self {
        let name = node.node_name.unwrap_or_else(|| drive.to_owned());
        let ImageName { file, driver } = file_name::parse(&node.file);
        let detour = file_name::detour(&node.file);
        let bitmap = |bitmap: DirtyBitmap| {
            Some(Bitmap { name: bitmap.name.filter(|name| !name.is_empty())?, persistent: bitmap.persistent })
        };
        let filter = is_filter(&node.drv).then(|| node.drv.clone());
        let data = node.image.format_specific.as_ref().map(|specific| &specific.data);
        Self {
            job: jobs.on(&name).map(str::to_owned),
            driver: if filter.is_some() { driver.unwrap_or_else(|| node.drv.clone()) } else { node.drv },
            data_file: data.is_some_and(|data| data.data_file.is_some()),
            encrypted: node.image.encrypted,
            bitmaps: node.dirty_bitmaps.into_iter().filter_map(bitmap).collect(),
            detour,
            corrupt: data.is_some_and(|data| data.corrupt == Some(true)),
            chain: images_below(&node.image),
            node: name,
            file,
            filter,
            read_only: node.ro,
            active: node.active.unwrap_or(active),
            virtual_size: node.image.virtual_size,
            cache: node.cache,
            detect_zeroes: node.detect_zeroes,
            snapshots: node.image.snapshots,
        }
    }

    /// Why no snapshot of any kind can be made of it now, as a clause.
    fn obstacle(&self) -> Option<String> {
        if !self.active {
            return Some("QEMU has set its image inactive, as after a migration".into());
        }
        if let Some(job) = &self.job {
            return Some(format!("{job} works on it"));
        }
        if let Some(filter) = &self.filter {
            return Some(format!("QEMU has a filter ({filter}) on top of it"));
        }
        if self.corrupt {
            return Some("its image is marked as damaged".into());
        }
        self.read_only.then(|| "it is read-only".into())
    }

    /// Why its device cannot be given another image now.
    fn no_swap(&self) -> Option<String> {
        let without_key = "its image is encrypted, and a node for another one would need its key";
        self.obstacle().or_else(|| self.encrypted.then(|| without_key.to_owned()))
    }

    /// Why no snapshot can be made inside it now.
    pub(crate) fn no_internal(&self) -> Option<String> {
        self.obstacle().or_else(|| {
            if self.driver != "qcow2" {
                return Some(format!("its format is {}", self.driver));
            }
            self.data_file.then(|| "its image keeps the data in another file".into())
        })
    }

    /// Why no overlay can be put on it now.
    pub(crate) fn no_external(&self) -> Option<String> {
        self.obstacle().or_else(|| self.encrypted.then(|| revertible::OVERLAY_IN_CLEAR.to_owned()))
    }

    /// Why the image, known to us as `file`, could not be brought back to a snapshot inside it if QEMU let go of it.
    pub(crate) fn no_revert(
        &self,
        file: &str,
        key_file: Option<&Path>,
        open: Option<&OpenFiles>,
    ) -> Option<String> {
        if self.driver != "qcow2" {
            return Some(format!("its format is {}", self.driver));
        }
        if self.data_file {
            return Some("its image keeps the data in another file".into());
        }
        if self.corrupt {
            return Some("its image is marked as damaged".into());
        }
        if let Some(detour) = &self.detour {
            return Some(detour.clone());
        }
        if Path::new(file).is_relative() {
            return Some(format!("QEMU's name for its image, {file}, is relative to an unknown directory"));
        }
        revertible::no_key(self.encrypted, key_file)
            .or_else(|| revertible::not_writable(file))
            .or_else(|| open.and_then(|open| open.other_than(file)))
    }
}

pub(crate) fn is_filter(driver: &str) -> bool {
    FILTERS.contains(&driver)
}

pub(crate) fn is_protocol(driver: &str) -> bool {
    matches!(driver, "file" | "host_device" | "host_cdrom" | "nbd" | "null-co" | "null-aio")
}

fn images_below(image: &ImageInfo) -> Vec<String> {
    let below = std::iter::successors(image.backing_image.as_deref(), |next| next.backing_image.as_deref());
    below.map(|image| file_name::parse(&image.filename).file).collect()
}

/// The files below `node` by the names that each node has for the next.
fn chain_of(node: &BlockNode, files: &[(String, Option<String>)]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    let mut next = node.backing_file.as_deref();
    while let Some(name) = next {
        let file = file_name::parse(name).file;
        if chain.contains(&file) {
            break;
        }
        next = files
            .iter()
            .find(|(of, backing)| of == name && backing.is_some())
            .and_then(|(_, b)| b.as_deref());
        chain.push(file);
    }
    chain
}
