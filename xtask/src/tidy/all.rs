//! All rules together.

use super::tree::Tree;
use super::{documents, layers, manifests, sources};
use crate::{Done, Failure};

/// Checks every rule and says every place where one is broken.
///
/// # Errors
/// All findings, a line each, or that the tree cannot be read.
pub fn tidy() -> Done {
    let tree = Tree::read()?;
    let metadata = manifests::Metadata::read()?;
    let mut findings = sources::findings(&tree);
    findings.extend(documents::findings(&tree, &metadata));
    findings.extend(manifests::findings(&tree, &metadata));
    findings.extend(layers::findings(&metadata)?);
    if findings.is_empty() { Ok(()) } else { Err(Failure(format!("tidy:\n{}", findings.join("\n")))) }
}
