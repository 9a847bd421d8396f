//! The files below an image, by what each header names.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{BackingFile, Error, FileId, Image, ImageInfo, QemuImg, backing_file};

/// The most layers that [`chain`] follows. QEMU 10.0 starts with 800 and ends by a signal with 900.
pub const MAX_DEPTH: usize = 500;

/// One file of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its path, absolute: the top's as it was given, each other one as the header above names it.
    pub path: PathBuf,
    /// Which file that is.
    pub id: FileId,
    /// Its format; `None` where the header above says none. Such a layer is followed as qcow2 when it begins like one.
    pub format: Option<String>,
    /// What its own header says; `None` of a layer whose header is not read: the last one of a chain that ends in
    /// [`ChainEnd::Cycle`] or [`ChainEnd::TooDeep`].
    pub info: Option<ImageInfo>,
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainEnd {
    /// The last layer names no backing file.
    Base,
    /// The last layer names something that is no local file (`nbd://...`, `json:...`). It is not opened.
    Foreign(String),
    /// The last layer names a file that is not there, or cannot be looked at.
    Missing(PathBuf),
    /// The last layer is an earlier one again.
    Cycle,
    /// It has more than [`MAX_DEPTH`] layers.
    TooDeep,
}

/// An image and the local files below it, the top first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The layers; the first is the image itself.
    pub layers: Vec<Layer>,
    /// What is below the last one.
    pub end: ChainEnd,
}

impl Chain {
    /// Whether `file` is the image or below it.
    pub fn contains(&self, file: FileId) -> bool {
        self.layers.iter().any(|layer| layer.id == file)
    }
}

/// Reads the chain of `image`, header by header. Nothing is opened but regular files and block devices, each by itself and
/// with its format given; a relative name is resolved against the directory of the file whose header has it, as QEMU does.
///
/// # Errors
/// Those of [`QemuImg::info`], for any layer that is there.
///
/// # Cancel safety
/// It only looks, and may be dropped.
pub async fn chain(qemu_img: &dyn QemuImg, image: &Image) -> Result<Chain, Error> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut seen = HashSet::new();
    let mut path = absolute(&image.path);
    let mut format = Some(image.format.clone());
    let end = loop {
        let id = match FileId::of(&path) {
            Ok(id) => id,
            Err(_) if !layers.is_empty() => break ChainEnd::Missing(path),
            // The top itself: its runner says what is wrong with it.
            Err(_) => FileId { device: 0, inode: 0 },
        };
        let known = !seen.insert(id);
        if known || layers.len() == MAX_DEPTH {
            layers.push(Layer { path, id, format, info: None });
            break if known { ChainEnd::Cycle } else { ChainEnd::TooDeep };
        }
        let driver = format.clone().unwrap_or_else(|| begins_like(&path).to_owned());
        let info = qemu_img.info(&Image::new(&path, driver)).await?;
        let backing = info.backing.clone();
        let above = path.clone();
        layers.push(Layer { path, id, format, info: Some(info) });
        let Some(BackingFile { name, format: named }) = backing else { break ChainEnd::Base };
        match backing_file(&above, &name) {
            Some(below) => path = below,
            None => break ChainEnd::Foreign(name),
        }
        format = named;
    };
    Ok(Chain { layers, end })
}

/// The format of a layer whose header above names none: QEMU would guess too. It serves looks alone.
fn begins_like(path: &Path) -> &'static str {
    let mut magic = [0; 4];
    // A FIFO would block: what is no file and no device is refused by the runner.
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    let read = is_file && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
    if read && magic == *b"QFI\xfb" { "qcow2" } else { "raw" }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
