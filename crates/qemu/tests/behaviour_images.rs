//! The behaviour suite on image files and qemu-img.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::{Clock, DomainRef, ImageFile, Port, PortError, Ports, Progress};
use xlsnap_qemu::{Description, DiskSpec, Images};
use xlsnap_qemu_img::Program;
use xlsnap_testkit::behaviour::{self, Backend, Capabilities, DiskKind, TestDisk};
use xlsnap_testkit::fake::MemStore;
use xlsnap_testkit::real::{Data, Scratch, layer_byte, qemu_img, write_offline};
use xlsnap_types::model::{DiskName, ImageFormat};

const SIZE: u64 = 1 << 20;
const FILLED: u64 = 64 << 10;

/// Which image each disk has.
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

struct Here(Instant);

impl Clock for Here {
    fn epoch_seconds(&self) -> u64 {
        SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Progress for Here {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

struct ImageFiles {
    scratch: Scratch,
    images: Images,
    described: Arc<Described>,
    store: MemStore,
    here: Here,
    uuid: Uuid,
    /// Whether its images' names can be given to new files.
    names: bool,
}

impl ImageFiles {
    async fn make(disks: &[TestDisk]) -> Self {
        let scratch = Scratch::new();
        let spec = |disk: &TestDisk| {
            let raw = disk.kind == DiskKind::Raw;
            let file = disk.name.as_str();
            let file = if raw { scratch.raw(file, SIZE) } else { scratch.qcow2(file, SIZE) };
            DiskSpec {
                read_only: disk.kind == DiskKind::ReadOnly,
                ..DiskSpec::new(
                    disk.name.clone(),
                    file.to_str().unwrap().to_owned(),
                    if raw { ImageFormat::Raw } else { ImageFormat::Qcow2 },
                )
            }
        };
        let specs: Vec<_> = disks.iter().map(spec).collect();
        let described = Arc::new(Described(Mutex::new(specs.clone())));
        let description: Arc<dyn Description> = Arc::<Described>::clone(&described);
        let images = Images::new(specs, Arc::new(Program::default()), description);
        let (store, here, uuid) = (MemStore::default(), Here(Instant::now()), Uuid::new_v4());
        Self { scratch, images, described, store, here, uuid, names: false }
    }

    async fn with_names(disks: &[TestDisk]) -> Self {
        Self { names: true, ..Self::make(disks).await }
    }

    fn spec(&self, disk: &DiskName) -> DiskSpec {
        let disks = self.described.0.lock().unwrap();
        disks.iter().find(|spec| spec.name == *disk).unwrap().clone()
    }
}

#[async_trait]
impl Backend for ImageFiles {
    fn capabilities(&self) -> Capabilities {
        Capabilities { live: false, external: true, machine: false }
    }

    fn ports(&self) -> Ports<'_> {
        let (images, here) = (&self.images, &self.here);
        let ports = Ports::new(images, images, &self.store, here, here);
        Ports {
            overlays: Port::Has(images),
            layers: Port::Has(images),
            health: Port::Has(images),
            commands: Port::Has(images),
            names: if self.names { Port::Has(images) } else { ports.names },
            ..ports
        }
    }

    fn domain(&self) -> DomainRef {
        DomainRef {
            uuid: self.uuid,
            name: "images".into(),
            pid: std::process::id(),
            lock_wait: Duration::from_secs(5),
        }
    }

    async fn start(&mut self) {
        unreachable!("image files do not run");
    }

    async fn stop(&mut self) {
        unreachable!("image files do not run");
    }

    async fn write(&mut self, disk: &DiskName, pattern: u8) {
        let spec = self.spec(disk);
        let data = Data { byte: pattern, offset: 0, len: FILLED };
        write_offline(Path::new(&spec.file), spec.format.driver(), data);
    }

    async fn read(&mut self, disk: &DiskName) -> u8 {
        let spec = self.spec(disk);
        let out = self.scratch.path("read.out");
        let (from, to) = (format!("if={}", spec.file), format!("of={}", out.display()));
        let size = format!("bs={FILLED}");
        qemu_img(&["dd", "-f", spec.format.driver(), "-O", "raw", &size, "count=1", &from, &to]);
        let read = std::fs::read(out).unwrap();
        assert!(read.iter().all(|&byte| byte == read[0]), "{disk} holds more than one pattern");
        read[0]
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
        std::fs::write(&file, "precious").unwrap();
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

xlsnap_testkit::behaviour_suite!(ImageFiles::make);

/// The same where new files take the names of the images.
mod under_names_that_are_kept {
    use super::ImageFiles;

    xlsnap_testkit::behaviour_suite!(ImageFiles::with_names);

    #[tokio::test]
    async fn any_tree_of_layers_stays_what_it_is() {
        let make = ImageFiles::with_names;
        let operations =
            xlsnap_testkit::behaviour::any_tree_of_layers_stays_what_it_is(make, 20..26, 14).await;
        assert!(operations > 30, "{operations}");
    }
}

#[tokio::test]
async fn any_tree_of_layers_stays_what_it_is() {
    let make = ImageFiles::make;
    let operations = behaviour::any_tree_of_layers_stays_what_it_is(make, 0..10, 14).await;
    assert!(operations > 50, "{operations}");
}
