use std::collections::{HashMap, HashSet};
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures_util::FutureExt;
use tempfile::TempDir;
use xlsnap_qemu_img::{
    BackingFile, ChainEnd, Check, CreateOptions, Error, Image, ImageInfo, Kind, MAX_DEPTH, QemuImg, Repair,
    SnapshotRef, chain,
};

/// More than a chain may have layers.
const FILES: usize = MAX_DEPTH + 8;

/// The files are empty: what their headers say is in the input.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        for at in 0..FILES {
            fs::write(directory.path().join(at.to_string()), "").expect("a file can be written");
        }
        Self { directory }
    }
}

thread_local! {
    static FILES_OF_THREAD: Files = Files::new();
}

/// What headers say, by file.
struct Headers(HashMap<PathBuf, String>);

/// A chain of hostile headers: it is followed to an end that is told right, whatever they name. The first byte says whether each file
/// stands on the next one; each line of the rest is a file's number and what its header names instead.
pub fn image_chain(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    FILES_OF_THREAD.with(|files| {
        let path = |at: usize| files.directory.path().join(at.to_string());
        let mut named = HashMap::new();
        if mode % 2 == 1 {
            named.extend((0..FILES - 1).map(|at| (path(at), (at + 1).to_string())));
        }
        for line in String::from_utf8_lossy(rest).lines() {
            let Some((at, name)) = line.split_once(' ') else { continue };
            let Some(at) = at.parse().ok().filter(|at| *at < FILES) else { continue };
            named.insert(path(at), name.to_owned());
        }
        follow(&path(0), &Headers(named));
    });
}

fn follow(top: &Path, headers: &Headers) {
    let followed = chain(headers, &Image::new(top, "qcow2")).now_or_never().expect("nothing is waited for");
    let chain = followed.expect("every file that is there has a header");
    let (last, others) = chain.layers.split_last().expect("the top is a layer");
    let ids: HashSet<_> = others.iter().map(|layer| layer.id).collect();
    assert_eq!(ids.len(), others.len(), "no file is met twice before the end");
    assert!(chain.layers.len() <= MAX_DEPTH + 1);
    assert_eq!(ids.contains(&last.id), chain.end == ChainEnd::Cycle);
    let names = |layer: &xlsnap_qemu_img::Layer| layer.info.clone().and_then(|info| info.backing);
    assert!(others.iter().all(|layer| names(layer).is_some()));
    match &chain.end {
        ChainEnd::Base => assert!(last.info.is_some() && names(last).is_none()),
        ChainEnd::Foreign(name) => assert_eq!(names(last).map(|backing| backing.name).as_ref(), Some(name)),
        ChainEnd::Missing(file) => assert!(fs::metadata(file).is_err() && names(last).is_some()),
        ChainEnd::Cycle => assert!(last.info.is_none()),
        ChainEnd::TooDeep => assert!(last.info.is_none() && others.len() == MAX_DEPTH),
    }
}

fn only_looked_at<T>() -> Result<T, Error> {
    Err(Error::new(Kind::Unsupported, "a chain is only looked at"))
}

#[async_trait]
impl QemuImg for Headers {
    async fn info(&self, image: &Image) -> Result<ImageInfo, Error> {
        let backing = self.0.get(&image.path).cloned();
        Ok(ImageInfo {
            format: "qcow2".to_owned(),
            virtual_size: 1 << 20,
            actual_size: 0,
            backing: backing.map(|name| BackingFile { name, format: Some("qcow2".to_owned()) }),
            external_data_file: false,
            corrupt: false,
            encrypted: false,
            bitmaps: Vec::new(),
            in_use: false,
            snapshots: Vec::new(),
        })
    }

    async fn snapshot_create(&self, _image: &Image, _name: &str) -> Result<(), Error> {
        only_looked_at()
    }

    async fn snapshot_apply(&self, _image: &Image, _snapshot: &SnapshotRef) -> Result<(), Error> {
        only_looked_at()
    }

    async fn snapshot_delete(&self, _image: &Image, _snapshot: &SnapshotRef) -> Result<(), Error> {
        only_looked_at()
    }

    async fn bitmap_remove(&self, _image: &Image, _name: &str) -> Result<(), Error> {
        only_looked_at()
    }

    async fn check(&self, _image: &Image, _repair: Option<Repair>) -> Result<Check, Error> {
        only_looked_at()
    }

    async fn commit(
        &self,
        _top: &Image,
        _base: &Image,
        _rate: Option<NonZeroU64>,
        _done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        only_looked_at()
    }

    async fn copy_snapshot(
        &self,
        _image: &Image,
        _snapshot: &SnapshotRef,
        _to: &Image,
        _done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        only_looked_at()
    }

    async fn rebase(
        &self,
        _image: &Image,
        _below: Option<&Image>,
        _done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        only_looked_at()
    }

    async fn rebase_unsafe(&self, _image: &Image, _base: &Image) -> Result<(), Error> {
        only_looked_at()
    }

    async fn create(&self, _image: &Image, _options: &CreateOptions) -> Result<(), Error> {
        only_looked_at()
    }
}
