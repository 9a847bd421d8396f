//! Where an adapter's change of a disk's image goes.

use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{Kind, PortError, PortErrorKind};
use xlsnap_qemu::Description;
use xlsnap_types::model::{DiskName, DomainName, ImageFormat};

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
    async fn set_image(&self, disk: &DiskName, file: &str, format: &ImageFormat) -> Result<(), PortError> {
        let change = async {
            let lock = self.files.lock(self.wait).await?;
            self.files.set_image(&lock, &self.domain, disk, file, format)
        };
        change.await.map_err(|e| {
            let kind = match e.kind() {
                Kind::NotFound => PortErrorKind::NotFound,
                Kind::Busy => PortErrorKind::Busy,
                Kind::Refused => PortErrorKind::Refused,
                _ => PortErrorKind::Failed,
            };
            let message = format!("{file} cannot be made the image of disk {disk} in the domain's file");
            PortError::new(kind, e.effect(), message).with_source(e)
        })
    }
}

/// A domain without a file: its disks are read off the running QEMU each time, so there is nothing to change.
#[derive(Debug)]
pub(crate) struct NoFile;

#[async_trait]
impl Description for NoFile {
    async fn set_image(&self, _disk: &DiskName, _file: &str, _format: &ImageFormat) -> Result<(), PortError> {
        Ok(())
    }
}
