//! Overlays that stand on a domain's layers, and that nothing recorded names.

use std::collections::BTreeSet;

use xlsnap_types::model::{DiskName, ImageFormat};

use super::LayerTree;
use crate::error::from_port;
use crate::{DomainRef, Error, LayerFile, Ports};

/// An overlay on a layer that no disk, record or ledger names: a clone that was made by hand, or what is left of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stray {
    /// The disk whose layers it stands on.
    pub(crate) disk: DiskName,
    /// The file.
    pub(crate) file: String,
    /// What it stands on: a layer, or another of these.
    pub(crate) base: String,
}

impl Stray {
    /// The file as a step names it.
    pub(crate) fn layer(&self) -> LayerFile {
        LayerFile {
            disk: self.disk.clone(),
            file: self.file.clone(),
            format: ImageFormat::Qcow2,
            identity: None,
        }
    }
}

/// Looks for them beside the layers: in other directories they cannot be seen.
///
/// # Errors
/// When a directory cannot be read.
///
/// # Cancel safety
/// It only looks.
pub(crate) async fn strays(
    ports: &Ports<'_>,
    domain: &DomainRef,
    tree: &LayerTree,
) -> Result<Vec<Stray>, Error> {
    let Some(overlays) = ports.overlays.get() else { return Ok(Vec::new()) };
    let unseen =
        |e| from_port(e, format!("what stands on the images of domain {} cannot be looked for", domain.name));
    let mut strays: Vec<Stray> = Vec::new();
    let mut files: Vec<String> = tree.nodes().iter().map(|node| node.layer.file.clone()).collect();
    let mut known: BTreeSet<String> = files.iter().cloned().collect();
    // What stands on one of them is one, too.
    while !files.is_empty() {
        let found = overlays.beside(&files).await.map_err(unseen)?;
        files.clear();
        for (file, base) in found {
            let below = strays.iter().find(|stray| stray.file == base).map(|stray| &stray.disk);
            let Some(disk) = tree.get(&base).map(|node| &node.disk).or(below).cloned() else { continue };
            if known.insert(file.clone()) {
                files.push(file.clone());
                strays.push(Stray { disk, file, base });
            }
        }
    }
    // One that another domain has is not astray.
    if let Some(claims) = ports.claims.get()
        && !strays.is_empty()
    {
        let files: Vec<String> = strays.iter().map(|stray| stray.file.clone()).collect();
        let claimed = claims.of(&files).await.map_err(unseen)?;
        strays.retain(|stray| !claimed.files.iter().any(|(file, _)| *file == stray.file));
    }
    Ok(strays)
}
