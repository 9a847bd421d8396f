//! Names that planning gives.

use std::collections::BTreeSet;

use xlsnap_types::model::{ImageFormat, Owner, SnapshotName};

use crate::Disk;
use crate::layers::{LayerNode, LayerTree};

/// How many names are tried for a file.
const NAMES: usize = 100_000;

/// The file of a layer beside the disk's image, which no file has: `/images/a.qcow2` and snapshot `s` give `/images/a.s-1.qcow2`. The
/// stem is that of the domain's own image, so that names do not grow from layer to layer; `None` when every number is taken.
pub(super) fn unused(
    (domain, disk, snapshot): (&str, &Disk, &SnapshotName),
    format: &ImageFormat,
    tree: &LayerTree,
    is_taken: impl Fn(&str) -> bool,
) -> Option<String> {
    first_unused(&stem(domain, disk, tree), snapshot.as_str(), format, tree, is_taken)
}

/// The same where the stem is known.
pub(crate) fn first_unused(
    stem: &str,
    snapshot: &str,
    format: &ImageFormat,
    tree: &LayerTree,
    is_taken: impl Fn(&str) -> bool,
) -> Option<String> {
    let layers: BTreeSet<&str> = tree.nodes().iter().map(|node| node.layer.file.as_str()).collect();
    (1..NAMES)
        .map(|number| file_beside(stem, &format!("{snapshot}-{number}"), format))
        .find(|file| !layers.contains(file.as_str()) && !is_taken(file))
}

/// What the names of a disk's new layers are made of: its own image, or a name in the directory that it has for them.
pub(super) fn stem(domain: &str, disk: &Disk, tree: &LayerTree) -> String {
    match &disk.overlays {
        None => own_image(tree, disk).to_owned(),
        Some(directory) => {
            let domain = domain.replace('/', "-");
            format!("{}/{domain}-{}", directory.trim_end_matches('/'), disk.name)
        }
    }
}

/// The image that the disk had before any layer was made on it.
fn own_image<'a>(tree: &'a LayerTree, disk: &'a Disk) -> &'a str {
    let chain = tree.chain(&disk.image);
    let is_own = |node: &&LayerNode| node.owner == Owner::Domain && node.disk == disk.name;
    let own = chain.iter().copied().find(is_own).or_else(|| tree.nodes().iter().find(is_own));
    let name = |node: &'a LayerNode| node.named.as_ref().unwrap_or(&node.layer.file).as_str();
    own.or(chain.last().copied()).map_or(disk.image.as_str(), name)
}

/// A file beside an image, with a word between its stem and its extension. Work on the string alone; only an extension of up to 8 ASCII
/// letters and digits is taken for one.
fn file_beside(image: &str, word: &str, format: &ImageFormat) -> String {
    let file = image.rfind('/').map_or(0, |slash| slash + 1);
    let stem = match image[file..].rfind('.') {
        Some(dot) if dot > 0 && is_extension(&image[file + dot + 1..]) => &image[..file + dot],
        _ => image,
    };
    let extension = match format {
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow => "qcow",
        ImageFormat::Qed => "qed",
        ImageFormat::Vpc => "vhd",
        _ => "img",
    };
    format!("{stem}.{word}.{extension}")
}

fn is_extension(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_beside_their_image() {
        let check = |image: &str, expected: &str| {
            assert_eq!(file_beside(image, "s 1", &ImageFormat::Qcow2), expected);
        };
        check("/i/a.qcow2", "/i/a.s 1.qcow2");
        check("/i/a", "/i/a.s 1.qcow2");
        check("/i.d/a", "/i.d/a.s 1.qcow2");
        check("/i/.a", "/i/.a.s 1.qcow2");
        check("/i/a.b.c", "/i/a.b.s 1.qcow2");
        check("/i/web.example.organisation", "/i/web.example.organisation.s 1.qcow2");
        check("/i/ü.img", "/i/ü.s 1.qcow2");
        check("a:b", "a:b.s 1.qcow2");
        assert_eq!(file_beside("/i/a.raw", "s", &ImageFormat::Vpc), "/i/a.s.vhd");
    }
}
