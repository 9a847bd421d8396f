//! The behaviour suite on a domain whose process the adapter starts, ends, saves and restores.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;
use xlsnap_orchestrator::{Clock, DomainRef, GuestState, Ports, Power, Run};
use xlsnap_qemu::{DiskSpec, Machine};
use xlsnap_testkit::behaviour::{self, Backend, Capabilities, DiskKind, TestDisk};
use xlsnap_testkit::fake::MemStore;
use xlsnap_testkit::real::{Data, Scratch, byte_offline, holds_offline, layer_byte, qemu_img, write_offline};
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::rig::{MIB, Rig, Unwatched, ports_of, spec};

pub(crate) struct WallClock(Instant);

impl WallClock {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }
}

impl Clock for WallClock {
    fn epoch_seconds(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Domain {
    rig: Rig,
    machine: Machine,
    store: MemStore,
    clock: WallClock,
    uuid: Uuid,
}

async fn make(disks: &[TestDisk]) -> Domain {
    let scratch = Scratch::new();
    let described = |disk: &TestDisk| {
        let raw = disk.kind == DiskKind::Raw;
        let file = match raw {
            true => scratch.raw(&format!("{}.raw", disk.name), 2 * MIB),
            false => scratch.qcow2(&format!("{}.qcow2", disk.name), 2 * MIB),
        };
        DiskSpec {
            format: if raw { ImageFormat::Raw } else { ImageFormat::Qcow2 },
            read_only: disk.kind == DiskKind::ReadOnly,
            ..spec(disk.name.as_str(), &file)
        }
    };
    let described = disks.iter().map(described).collect();
    let rig = Rig::of(scratch, described);
    let machine = rig.machine(None);
    let clock = WallClock::now();
    Domain { rig, machine, store: MemStore::default(), clock, uuid: Uuid::new_v4() }
}

impl Domain {
    fn spec(&self, disk: &DiskName) -> DiskSpec {
        self.rig.described.disks().into_iter().find(|spec| spec.name == *disk).unwrap()
    }

    async fn is_on(&self) -> bool {
        self.rig.state(&self.machine).await != GuestState::Off
    }
}

fn data(byte: u8) -> Data {
    Data { byte, offset: 0, len: 64 << 10 }
}

#[async_trait]
impl Backend for Domain {
    fn capabilities(&self) -> Capabilities {
        Capabilities { live: true, external: true, machine: true }
    }

    fn ports(&self) -> Ports<'_> {
        ports_of(&self.machine, &self.store, &self.clock, &Unwatched)
    }

    fn domain(&self) -> DomainRef {
        DomainRef {
            uuid: self.uuid,
            name: "guest".into(),
            pid: std::process::id(),
            lock_wait: Duration::from_secs(1),
        }
    }

    async fn start(&mut self) {
        self.machine.start(Run::Runs).await.unwrap();
    }

    async fn stop(&mut self) {
        self.machine.end().await.unwrap();
    }

    async fn write(&mut self, disk: &DiskName, pattern: u8) {
        if self.is_on().await {
            return self.rig.write(disk.as_str(), pattern);
        }
        let spec = self.spec(disk);
        write_offline(Path::new(&spec.file), spec.format.driver(), data(pattern));
    }

    async fn read(&mut self, disk: &DiskName) -> u8 {
        if self.is_on().await {
            return self.rig.read(disk.as_str());
        }
        let spec = self.spec(disk);
        let (file, format) = (Path::new(&spec.file), spec.format.driver());
        let byte = byte_offline(file, format, 0);
        assert!(
            holds_offline(file, format, data(byte)),
            "disk {disk} begins with {byte} and goes on otherwise"
        );
        byte
    }

    async fn read_layer(&mut self, file: &str, format: &ImageFormat, inside: Option<&str>) -> u8 {
        layer_byte(file, format.driver(), inside)
    }

    async fn foreign_snapshot(&mut self, disk: &DiskName, tag: &str) {
        qemu_img(&["snapshot", "-c", tag, &self.spec(disk).file]);
    }

    async fn foreign_deletion(&mut self, disk: &DiskName, tag: &str) {
        qemu_img(&["snapshot", "-d", tag, &self.spec(disk).file]);
    }

    async fn foreign_file(&mut self, disk: &DiskName) -> String {
        let file = self.free_file(disk, "foreign");
        std::fs::write(&file, b"not yours").unwrap();
        file
    }

    async fn foreign_memory_file(&mut self) -> String {
        let file = self.rig.scratch.path("saves/foreign");
        std::fs::write(&file, b"not yours").unwrap();
        file.to_str().unwrap().to_owned()
    }

    async fn spoil(&mut self, file: &str) {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }

    async fn pause(&mut self) {
        self.rig.monitor().must("stop", json!({}));
    }

    fn free_file(&self, disk: &DiskName, word: &str) -> String {
        self.rig.scratch.path(&format!("{disk}-{word}.qcow2")).to_str().unwrap().to_owned()
    }
}

xlsnap_testkit::behaviour_suite!(make);

#[tokio::test]
async fn any_tree_of_layers_stays_what_it_is() {
    let operations = behaviour::any_tree_of_layers_stays_what_it_is(make, 100..104, 20).await;
    assert!(operations > 20, "{operations}");
}
