//! Images of which only the headers are there.

use std::num::NonZeroU64;
use std::path::Path;

use async_trait::async_trait;
use xlsnap_qemu_img::{
    BackingFile, Check, CreateOptions, Error, Image, ImageInfo, Kind, QemuImg, Repair, SnapshotRef,
};

/// Tells what the header of a file names. All else is refused.
pub(crate) struct Headers<F>(pub(crate) F);

fn only_looked_at<T>() -> Result<T, Error> {
    Err(Error::new(Kind::Unsupported, "a chain is only looked at"))
}

#[async_trait]
impl<F: Fn(&Path) -> Option<String> + Send + Sync> QemuImg for Headers<F> {
    async fn info(&self, image: &Image) -> Result<ImageInfo, Error> {
        let backing = (self.0)(&image.path);
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

    async fn copy(
        &self,
        _image: &Image,
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
