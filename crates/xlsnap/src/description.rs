//! Where an adapter's change of a disk's image goes.

use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{ImageFile, Kind, PortError, PortErrorKind};
use xlsnap_qemu::Description;
use xlsnap_types::model::{DiskName, DomainName};

use crate::domain::DomainFiles;

/// The file of one domain.
#[derive(Debug)]
pub(crate) struct FileOf {
    pub(crate) files: DomainFiles,
    pub(crate) domain: DomainName,
    /// How long to wait for another process that changes the domain files.
    pub(crate) wait: Duration,
}

#[async_trait]
impl Description for FileOf {
    async fn set_images(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        let change = async {
            let lock = self.files.lock(self.wait).await?;
            self.files.set_images(&lock, &self.domain, images)
        };
        change.await.map_err(|e| {
            let kind = match e.kind() {
                Kind::NotFound => PortErrorKind::NotFound,
                Kind::Busy => PortErrorKind::Busy,
                Kind::Refused => PortErrorKind::Refused,
                _ => PortErrorKind::Failed,
            };
            let named = images.iter().map(|(disk, image)| format!("{} the image of disk {disk}", image.file));
            let named = named.collect::<Vec<_>>().join(", and ");
            let message = format!("the domain's file cannot make {named}");
            PortError::new(kind, e.effect(), message).with_source(e)
        })
    }
}

/// A domain without a file: its disks are read off the running QEMU each time, so there is nothing to change.
#[derive(Debug)]
pub(crate) struct NoFile;

#[async_trait]
impl Description for NoFile {
    async fn set_images(&self, _images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        Ok(())
    }
}
