//! A domain on real images with a real program, for the suite.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::{Clock, DomainRef, ImageFile, Port, PortError, Ports, Progress};
use xlsnap_qemu::{Description, DiskSpec, Images, Live};
use xlsnap_qmp_transport::{Client, Options};
use xlsnap_testkit::behaviour::{Backend, Capabilities, DiskKind, TestDisk};
use xlsnap_testkit::fake::MemStore;
use xlsnap_testkit::real::{
    Attach, Data, Disk, LiveDisks, Scratch, StorageDaemon, Vm, VmOptions, byte_offline, holds_offline,
    layer_byte, qemu_img, write_offline,
};
use xlsnap_types::model::{DiskName, ImageFormat};

const SIZE: u64 = 2 << 20;

/// What runs on the disks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    Machine(Attach),
    StorageDaemon,
}

enum Running {
    Machine(Vm),
    StorageDaemon(StorageDaemon),
}

/// The domain's description: what it starts from.
#[derive(Debug, Default)]
struct Described(Mutex<Vec<DiskSpec>>);

#[async_trait]
impl Description for Described {
    async fn set_images(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        let mut disks = self.0.lock().unwrap();
        for (disk, image) in images {
            let spec = disks.iter_mut().find(|spec| spec.name == *disk).unwrap();
            spec.file.clone_from(&image.file);
            spec.format.clone_from(&image.format);
        }
        Ok(())
    }
}

struct WallClock(Instant);

impl Clock for WallClock {
    fn epoch_seconds(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Unwatched;

impl Progress for Unwatched {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

pub(crate) struct Domain {
    scratch: Scratch,
    program: Program,
    described: Arc<Described>,
    store: MemStore,
    clock: WallClock,
    images: Images,
    /// The adapter before the process, so that it leaves the monitor first.
    live: Option<Live>,
    running: Option<Running>,
    uuid: Uuid,
}

impl Domain {
    /// Off, with new images.
    pub(crate) fn new(disks: &[TestDisk], program: Program) -> Self {
        let scratch = Scratch::new();
        let spec = |disk: &TestDisk| {
            let file = match disk.kind {
                DiskKind::Raw => scratch.raw(&format!("{}.raw", disk.name), SIZE),
                _ => scratch.qcow2(&format!("{}.qcow2", disk.name), SIZE),
            };
            DiskSpec {
                read_only: disk.kind == DiskKind::ReadOnly,
                ..DiskSpec::new(
                    disk.name.clone(),
                    file.to_str().unwrap().to_owned(),
                    if disk.kind == DiskKind::Raw { ImageFormat::Raw } else { ImageFormat::Qcow2 },
                )
            }
        };
        let specs: Vec<DiskSpec> = disks.iter().map(spec).collect();
        let described = Arc::new(Described(Mutex::new(specs)));
        Self {
            images: offline(&described),
            scratch,
            program,
            described,
            store: MemStore::default(),
            clock: WallClock(Instant::now()),
            live: None,
            running: None,
            uuid: Uuid::new_v4(),
        }
    }

    fn specs(&self) -> Vec<DiskSpec> {
        self.described.0.lock().unwrap().clone()
    }

    fn spec(&self, disk: &DiskName) -> DiskSpec {
        self.specs().into_iter().find(|spec| spec.name == *disk).unwrap()
    }

    fn live_disks(&self) -> Option<&dyn LiveDisks> {
        Some(match self.running.as_ref()? {
            Running::Machine(vm) => vm,
            Running::StorageDaemon(daemon) => daemon,
        })
    }
}

fn offline(described: &Arc<Described>) -> Images {
    let specs = described.0.lock().unwrap().clone();
    Images::new(specs, Arc::new(xlsnap_qemu_img::Program::default()), Arc::clone(described) as _)
}

fn fixture(spec: &DiskSpec) -> Disk {
    let disk = Disk::qcow2(spec.name.as_str(), Path::new(&spec.file));
    Disk { format: spec.format.driver().into(), read_only: spec.read_only, ..disk }
}

/// What the suite writes and reads.
fn data(byte: u8) -> Data {
    Data { byte, offset: 0, len: 64 << 10 }
}

#[async_trait]
impl Backend for Domain {
    fn capabilities(&self) -> Capabilities {
        Capabilities { live: true, external: true, machine: false }
    }

    fn ports(&self) -> Ports<'_> {
        let (store, clock, progress) = (&self.store, &self.clock, &Unwatched);
        match &self.live {
            Some(live) => Ports {
                overlays: Port::Has(live),
                layers: Port::Has(live),
                ..Ports::new(live, live, store, clock, progress)
            },
            None => {
                let images = &self.images;
                let ports = Ports::new(images, images, store, clock, progress);
                Ports {
                    overlays: Port::Has(images),
                    layers: Port::Has(images),
                    health: Port::Has(images),
                    ..ports
                }
            }
        }
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
        let specs = self.specs();
        let disks: Vec<Disk> = specs.iter().map(fixture).collect();
        let running = match self.program {
            Program::Machine(attach) => {
                let options = VmOptions { attach, ..VmOptions::default() };
                Running::Machine(Vm::start(&self.scratch, &disks, &options))
            }
            Program::StorageDaemon => Running::StorageDaemon(StorageDaemon::start(&self.scratch, &disks)),
        };
        let qmp = match &running {
            Running::Machine(vm) => vm.qmp(),
            Running::StorageDaemon(daemon) => daemon.qmp(),
        };
        let client = Client::connect_unix(qmp, Options::default()).await.unwrap();
        let qemu_img = Arc::new(xlsnap_qemu_img::Program::default());
        self.live = Some(Live::new(Arc::new(client), qemu_img, specs, Arc::clone(&self.described) as _));
        self.running = Some(running);
    }

    async fn stop(&mut self) {
        self.live = None;
        match self.running.take().unwrap() {
            Running::Machine(vm) => vm.quit(),
            Running::StorageDaemon(daemon) => daemon.quit(),
        }
        self.images = offline(&self.described);
    }

    async fn write(&mut self, disk: &DiskName, pattern: u8) {
        let spec = self.spec(disk);
        match self.live_disks() {
            Some(disks) => disks.write(disk.as_str(), data(pattern)),
            None => write_offline(Path::new(&spec.file), spec.format.driver(), data(pattern)),
        }
    }

    async fn read(&mut self, disk: &DiskName) -> u8 {
        let spec = self.spec(disk);
        let (file, format) = (Path::new(&spec.file), spec.format.driver());
        let (byte, is_all) = match self.live_disks() {
            Some(disks) => {
                let byte = disks.byte_at(disk.as_str(), 0);
                (byte, disks.holds(disk.as_str(), data(byte)))
            }
            None => {
                let byte = byte_offline(file, format, 0);
                (byte, holds_offline(file, format, data(byte)))
            }
        };
        assert!(is_all, "disk {disk} begins with {byte} and goes on otherwise");
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
        unreachable!("there is no machine here")
    }

    async fn spoil(&mut self, _file: &str) {
        unreachable!("there is no machine here")
    }

    async fn pause(&mut self) {
        unreachable!("there is no machine here")
    }

    fn free_file(&self, disk: &DiskName, word: &str) -> String {
        self.scratch.path(&format!("{disk}-{word}.qcow2")).to_str().unwrap().to_owned()
    }
}
