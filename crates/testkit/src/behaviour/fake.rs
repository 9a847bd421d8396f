//! The fake world as a world of the suite.

use async_trait::async_trait;
use xlsnap_orchestrator::{DomainRef, Ports};
use xlsnap_types::model::{DiskName, ImageFormat};

use super::{Capabilities, DiskKind, TestDisk, World};
use crate::fake::{FakeWorld, Image};

/// A [`FakeWorld`] under the suite.
pub struct FakeDomain {
    world: FakeWorld,
    live: bool,
}

impl FakeDomain {
    /// A domain with these disks; `live` says whether it can be started.
    pub fn new(disks: &[TestDisk], live: bool) -> Self {
        Self::on(FakeWorld::new(&[]), disks, live)
    }

    /// The same, with a process that can be ended and started, and memory.
    pub fn with_machine(disks: &[TestDisk]) -> Self {
        Self::on(FakeWorld::new(&[]).with_machine(), disks, true)
    }

    fn on(world: FakeWorld, disks: &[TestDisk], live: bool) -> Self {
        for disk in disks {
            let format = if disk.kind == DiskKind::Raw { ImageFormat::Raw } else { ImageFormat::Qcow2 };
            world.add_disk(disk.name.as_str(), format, disk.kind == DiskKind::ReadOnly, false);
        }
        Self { world, live }
    }
}

#[async_trait]
impl World for FakeDomain {
    fn capabilities(&self) -> Capabilities {
        Capabilities { live: self.live, external: true, machine: self.world.has_machine() }
    }

    fn ports(&self) -> Ports<'_> {
        self.world.ports()
    }

    fn domain(&self) -> DomainRef {
        self.world.domain()
    }

    async fn start(&mut self) {
        self.world.start();
    }

    async fn stop(&mut self) {
        self.world.stop();
    }

    async fn write(&mut self, disk: &DiskName, pattern: u8) {
        self.world.write(disk.as_str(), pattern.into());
    }

    async fn read(&mut self, disk: &DiskName) -> u8 {
        u8::try_from(self.world.read(disk.as_str())).expect("the suite wrote a byte")
    }

    async fn stranger_creates(&mut self, disk: &DiskName, tag: &str) {
        self.world.change_disk(disk.as_str(), |image| image.take(tag, 1));
    }

    async fn stranger_deletes(&mut self, disk: &DiskName, tag: &str) {
        self.world
            .change_disk(disk.as_str(), |image| image.snapshots.retain(|kept| kept.snapshot.name != tag));
    }

    async fn stranger_file(&mut self, disk: &DiskName) -> String {
        let file = self.free_file(disk, "stranger");
        self.world.add_file(&file, Image::new(ImageFormat::Raw));
        file
    }

    async fn stranger_memory_file(&mut self) -> String {
        let file = "/saves/a-stranger.save";
        self.world.add_memory_file(file);
        file.to_owned()
    }

    async fn spoil(&mut self, file: &str) {
        self.world.spoil(file);
    }

    async fn pause(&mut self) {
        self.world.pause();
    }

    fn free_file(&self, disk: &DiskName, word: &str) -> String {
        format!("/images/{disk}-{word}.qcow2")
    }
}
