//! The fake backend, for the suite.

use async_trait::async_trait;
use xlsnap_orchestrator::{DomainRef, Ports};
use xlsnap_types::model::{DiskName, ImageFormat};

use super::{Backend, Capabilities, DiskKind, TestDisk};
use crate::fake::{FakeBackend, Image};

/// A [`FakeBackend`] under the suite.
pub struct FakeDomain {
    backend: FakeBackend,
    live: bool,
}

impl FakeDomain {
    /// A domain with these disks; `live` says whether it can be started.
    pub fn new(disks: &[TestDisk], live: bool) -> Self {
        Self::on(FakeBackend::new(&[]), disks, live)
    }

    /// The same, with a process that can be ended and started, and memory.
    pub fn with_machine(disks: &[TestDisk]) -> Self {
        Self::on(FakeBackend::new(&[]).with_machine().with_names(), disks, true)
    }

    fn on(backend: FakeBackend, disks: &[TestDisk], live: bool) -> Self {
        for disk in disks {
            let format = if disk.kind == DiskKind::Raw { ImageFormat::Raw } else { ImageFormat::Qcow2 };
            backend.add_disk(disk.name.as_str(), format, disk.kind == DiskKind::ReadOnly, false);
        }
        Self { backend, live }
    }
}

#[async_trait]
impl Backend for FakeDomain {
    fn capabilities(&self) -> Capabilities {
        Capabilities { live: self.live, external: true, machine: self.backend.has_machine() }
    }

    fn ports(&self) -> Ports<'_> {
        self.backend.ports()
    }

    fn domain(&self) -> DomainRef {
        self.backend.domain()
    }

    async fn start(&mut self) {
        self.backend.start();
    }

    async fn stop(&mut self) {
        self.backend.stop();
    }

    async fn write(&mut self, disk: &DiskName, pattern: u8) {
        self.backend.write(disk.as_str(), pattern.into());
    }

    async fn read(&mut self, disk: &DiskName) -> u8 {
        u8::try_from(self.backend.read(disk.as_str())).expect("the suite wrote a byte")
    }

    async fn read_layer(&mut self, file: &str, _format: &ImageFormat, inside: Option<&str>) -> u8 {
        let content = match inside {
            None => self.backend.read_image(file),
            Some(tag) => self.backend.read_inside(file, tag),
        };
        u8::try_from(content).expect("the suite wrote a byte")
    }

    async fn foreign_snapshot(&mut self, disk: &DiskName, tag: &str) {
        self.backend.change_disk(disk.as_str(), |image| image.take(tag, 1));
    }

    async fn foreign_deletion(&mut self, disk: &DiskName, tag: &str) {
        self.backend
            .change_disk(disk.as_str(), |image| image.snapshots.retain(|kept| kept.snapshot.name != tag));
    }

    async fn foreign_file(&mut self, disk: &DiskName) -> String {
        let file = self.free_file(disk, "foreign");
        self.backend.add_file(&file, Image::new(ImageFormat::Raw));
        file
    }

    async fn foreign_memory_file(&mut self) -> String {
        let file = "/saves/foreign.save";
        self.backend.add_memory_file(file);
        file.to_owned()
    }

    async fn spoil(&mut self, file: &str) {
        self.backend.spoil(file);
    }

    async fn pause(&mut self) {
        self.backend.pause();
    }

    fn free_file(&self, disk: &DiskName, word: &str) -> String {
        format!("/images/{disk}-{word}.qcow2")
    }
}
