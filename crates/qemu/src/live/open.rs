//! Which files QEMU has open, and by which nodes.

use std::path::Path;

use xlsnap_orchestrator::{Effect, LayerFile, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::{BlockNode, BlockdevDel, QueryNamedBlockNodes};
use xlsnap_qmp_transport::{Kind, QmpExt};

use super::Live;
use super::look::within_limits;
use crate::error;
use crate::inventory::attached::{is_filter, is_protocol};
use crate::inventory::file_name;
use crate::inventory::identity::Files;

/// QEMU's nodes.
pub(super) struct Nodes {
    nodes: Vec<BlockNode>,
    files: Files,
}

impl Live {
    /// All nodes that QEMU has now.
    pub(super) async fn nodes(&self) -> Result<Nodes, PortError> {
        let nodes = self.ask(QueryNamedBlockNodes::FLAT).await?;
        within_limits(&nodes[..])?;
        let names: Vec<String> = nodes.iter().map(|node| file_name::parse(&node.file).file).collect();
        let names = names.iter().map(String::as_str);
        let files = Files::new(self.directory.as_deref()).with_process(self.process, names);
        Ok(Nodes { nodes, files })
    }

    /// Closes the nodes that QEMU has on the file, as far as nothing uses them: one that it still has.
    pub(super) async fn close_unused(&self, file: &str) -> Result<Option<String>, PortError> {
        let mut nodes = self.nodes().await?;
        for node_name in nodes.images(file) {
            match self.qmp.execute(BlockdevDel { node_name }).await {
                // It is in use, or belongs to what uses it: the nodes tell.
                Ok(_) => {}
                Err(error) if error.kind() == Kind::Rejected => {}
                Err(error) => return Err(error::of_qmp(format!("QEMU could not close {file}"), error)),
            }
        }
        Ok(self.nodes().await?.any(file).map(str::to_owned))
    }

    /// Closes the nodes on the file and those above them, the uppermost first, as far as nothing uses them: what a disk wrote to
    /// before a revert is open still. One that QEMU has on the file after that.
    pub(super) async fn close_branch(&self, file: &str) -> Result<Option<String>, PortError> {
        let files = self.nodes().await?.branch(file);
        for above in files.iter().rev() {
            self.close_unused(above).await?;
        }
        Ok(self.nodes().await?.any(file).map(str::to_owned))
    }
}

impl Nodes {
    /// The file, and the files of the nodes above it.
    pub(super) fn branch(&mut self, file: &str) -> Vec<String> {
        let Self { nodes, files } = self;
        let mut branch = vec![file.to_owned()];
        let mut at = 0;
        while let Some(below) = branch.get(at).cloned() {
            for node in nodes.iter() {
                let is_on = node.backing_file.as_deref();
                let is_on = is_on.is_some_and(|base| files.same(&below, &file_name::parse(base).file));
                let above = files.absolute(&file_name::parse(&node.file).file);
                if is_on && !branch.contains(&above) {
                    branch.push(above);
                }
            }
            at += 1;
        }
        branch
    }

    /// A node on the file, if there is one.
    pub(super) fn any(&mut self, file: &str) -> Option<&str> {
        let Self { nodes, files } = self;
        let node = nodes.iter().find(|node| files.same(file, &file_name::parse(&node.file).file))?;
        Some(node.node_name.as_deref().unwrap_or("without a name"))
    }

    /// The nodes that give the content of the image in the file: neither its raw bytes nor what a filter makes of it.
    pub(super) fn images(&mut self, file: &str) -> Vec<String> {
        let Self { nodes, files } = self;
        let is_image = |node: &&BlockNode| {
            !is_protocol(&node.drv)
                && !is_filter(&node.drv)
                && files.same(file, &file_name::parse(&node.file).file)
        };
        nodes.iter().filter(is_image).filter_map(|node| node.node_name.clone()).collect()
    }

    /// Whether QEMU has this node.
    pub(super) fn has(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.node_name.as_deref() == Some(name))
    }

    /// Whether two names, the second QEMU's, are one file.
    pub(super) fn same(&mut self, ours: &str, theirs: &str) -> bool {
        self.files.same(ours, theirs)
    }

    /// QEMU's name for a file as others can use it.
    pub(super) fn absolute(&self, theirs: &str) -> Result<String, PortError> {
        let absolute = self.files.absolute(theirs);
        if Path::new(&absolute).is_absolute() {
            return Ok(absolute);
        }
        let message = format!("QEMU's name for an image, {absolute}, is relative to an unknown directory");
        Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
    }

    /// Refuses a file that QEMU has open under a name that leads to another one now.
    pub(super) fn refuse_replaced(&mut self, layer: &LayerFile) -> Result<(), PortError> {
        if self.any(&layer.file).is_none() {
            return Ok(());
        }
        match self.files.open_in_qemu().and_then(|open| open.other_than(&layer.file)) {
            None => Ok(()),
            Some(why) => {
                let message = format!("disk {}: {why}", layer.disk);
                Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
            }
        }
    }
}
