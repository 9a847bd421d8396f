//! How much of an answer is believed.

use xlsnap_qmp_transport::commands::{
    BlockDevice, BlockExport, BlockGraph, BlockJobInfo, BlockNode, ImageInfo, SnapshotInfo,
};

/// What is longer than this is no answer of QEMU's.
mod limit {
    pub(super) const DEVICES: usize = 4096;
    pub(super) const NODES: usize = 65_536;
    pub(super) const EDGES: usize = 262_144;
    pub(super) const JOBS: usize = 4096;
    /// QEMU's own (`QCOW_MAX_SNAPSHOTS`).
    pub(super) const SNAPSHOTS: usize = 65_536;
    /// Names and ids; QEMU's longest has 255 bytes.
    pub(super) const NAME: usize = 1024;
    /// File names; QEMU's own is 4096, but `json:` nests them.
    pub(super) const FILE: usize = 65_536;
}

/// An answer that has to be within limits before anything is made of it.
pub(crate) trait Limited {
    /// What is too much in it, if anything.
    fn excess(&self) -> Option<&'static str>;
}

impl Limited for [BlockDevice] {
    fn excess(&self) -> Option<&'static str> {
        let name = |text: &str| text.len() > limit::NAME;
        (self.len() > limit::DEVICES).then_some("devices").or_else(|| {
            self.iter().find_map(|device| {
                if name(&device.device) || device.qdev.as_deref().is_some_and(name) {
                    return Some("bytes in a device's name");
                }
                device.inserted.as_ref().and_then(Limited::excess)
            })
        })
    }
}

impl Limited for [BlockNode] {
    fn excess(&self) -> Option<&'static str> {
        (self.len() > limit::NODES).then_some("nodes").or_else(|| self.iter().find_map(Limited::excess))
    }
}

impl Limited for BlockNode {
    fn excess(&self) -> Option<&'static str> {
        let backing = self.backing_file.as_deref().unwrap_or_default();
        if self.node_name.as_deref().unwrap_or_default().len() > limit::NAME || self.drv.len() > limit::NAME {
            return Some("bytes in a node's name");
        }
        if self.file.len() > limit::FILE || backing.len() > limit::FILE {
            return Some("bytes in a file name");
        }
        self.image.excess()
    }
}

impl Limited for ImageInfo {
    fn excess(&self) -> Option<&'static str> {
        if self.filename.len() > limit::FILE {
            return Some("bytes in a file name");
        }
        if self.snapshots.len() > limit::SNAPSHOTS {
            return Some("snapshots in an image");
        }
        let long = |s: &SnapshotInfo| s.id.len() > limit::NAME || s.name.len() > limit::NAME;
        if self.snapshots.iter().any(long) {
            return Some("bytes in a snapshot's name");
        }
        // The depth is limited by the parser of the JSON.
        self.backing_image.as_ref().and_then(|image| image.excess())
    }
}

impl Limited for [BlockExport] {
    fn excess(&self) -> Option<&'static str> {
        let long = |e: &BlockExport| e.id.len() > limit::NAME || e.node_name.len() > limit::NAME;
        (self.len() > limit::DEVICES)
            .then_some("exports")
            .or_else(|| self.iter().any(long).then_some("bytes in an export's name"))
    }
}

impl Limited for [BlockJobInfo] {
    fn excess(&self) -> Option<&'static str> {
        let long = |j: &BlockJobInfo| j.device.len() > limit::NAME || j.job_type.len() > limit::NAME;
        (self.len() > limit::JOBS)
            .then_some("jobs")
            .or_else(|| self.iter().any(long).then_some("bytes in a job's name"))
    }
}

impl Limited for BlockGraph {
    fn excess(&self) -> Option<&'static str> {
        if self.nodes.len() > limit::NODES || self.edges.len() > limit::EDGES {
            return Some("nodes");
        }
        self.nodes.iter().any(|node| node.name.len() > limit::NAME).then_some("bytes in a node's name")
    }
}
