//! Which crate may depend on which: the picture of ARCHITECTURE.md as a table.

use std::collections::BTreeSet;

use super::manifests::{Metadata, Package, closure};
use crate::{Done, Failure};

/// A row: the directory of a crate, the crates of ours that its code may use, and what must not get into it through
/// any other.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

/// I/O, and what comes with it.
const IO: &[&str] = &["clap", "mio", "rustix", "tempfile", "tokio"];

/// What only the edge to the user has.
const EDGE: &[&str] = &["anstream", "clap", "tracing-subscriber"];

const LAYERS: &[Row] = &[
    // The domain tower knows nothing of sockets, processes and paths.
    ("types", &[], &["clap", "mio", "rustix", "tempfile", "tokio", "tracing", "async-trait"]),
    ("orchestrator", &["types", "conf-store"], IO),
    // The mechanism tower knows nothing of domains.
    ("conf-store", &["types"], EDGE),
    ("qmp-transport", &[], EDGE),
    ("qemu-img", &[], EDGE),
    ("guest-agent", &[], EDGE),
    ("xenstore", &[], EDGE),
    ("memory-file", &[], EDGE),
    // Where the towers meet.
    ("qemu", &["orchestrator", "types", "qmp-transport", "qemu-img", "guest-agent", "memory-file"], EDGE),
    ("xen", &["orchestrator", "types", "qmp-transport", "qemu-img", "xenstore", "memory-file", "qemu"], EDGE),
    (
        "xlsnap",
        &["types", "conf-store", "orchestrator", "qmp-transport", "qemu-img", "xenstore", "qemu", "xen"],
        EDGE,
    ),
    ("cli", &["types", "xlsnap"], &[]),
    ("capi", &["types", "xlsnap"], EDGE),
    // Never published, and never in what is.
    ("testkit", &["types", "conf-store", "orchestrator", "qmp-transport", "qemu-img", "qemu"], EDGE),
    ("xtask", &[], &[]),
];

/// Checks the table against what cargo says.
///
/// # Errors
/// Every edge that the table does not have, and every crate that has no row.
pub fn layers() -> Done {
    let findings = findings(&Metadata::read()?)?;
    if findings.is_empty() { Ok(()) } else { Err(Failure(findings.join("\n"))) }
}

pub(super) fn findings(metadata: &Metadata) -> Result<Vec<String>, Failure> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let Some((_, ours, banned)) = row(&package.directory) else {
            findings.push(format!(
                "{}: has no row in the table of layers (xtask/src/tidy/layers.rs)",
                package.name
            ));
            continue;
        };
        for other in members(metadata, metadata.edges.get(&package.name)) {
            if !ours.contains(&other) {
                findings
                    .push(format!("{}: must not depend on {other}: see the table of layers", package.name));
            }
        }
        for other in members(metadata, metadata.test_edges.get(&package.name)) {
            // The fixtures stand on all layers, and are for the tests of all.
            if other != "testkit" && stands_on(other, &package.directory) {
                findings
                    .push(format!("{}: its tests must not depend on {other}, a higher layer", package.name));
            }
        }
        if !banned.is_empty() {
            let inside = closure(&package.name)?;
            let found = banned.iter().filter(|other| inside.contains(**other));
            findings.extend(
                found.map(|other| {
                    format!("{}: {other} gets into it, and does not belong there", package.name)
                }),
            );
        }
    }
    let gone =
        LAYERS.iter().filter(|(directory, ..)| !metadata.packages.iter().any(|p| p.directory == *directory));
    findings.extend(
        gone.map(|(directory, ..)| format!("{directory}: has a row in the table of layers and is no crate")),
    );
    Ok(findings)
}

fn row(directory: &str) -> Option<&'static Row> {
    LAYERS.iter().find(|(name, ..)| *name == directory)
}

/// Whether the code of `upper` uses `lower`, through any others of ours.
fn stands_on(upper: &str, lower: &str) -> bool {
    row(upper).is_some_and(|(_, ours, _)| ours.iter().any(|next| *next == lower || stands_on(next, lower)))
}

/// Of the packages named in `edges`, those of the workspace, by directory.
fn members<'a>(metadata: &'a Metadata, edges: Option<&BTreeSet<String>>) -> Vec<&'a str> {
    let is_named = |package: &&Package| edges.is_some_and(|edges| edges.contains(&package.name));
    metadata.packages.iter().filter(is_named).map(|package| package.directory.as_str()).collect()
}
