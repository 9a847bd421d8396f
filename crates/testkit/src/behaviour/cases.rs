//! The cases, and what they share.

mod check;
mod create;
mod delete;
mod external;
mod layers;
mod machine;
mod names;
mod revert;
mod trees;

pub use check::*;
pub use create::*;
pub use delete::*;
pub use external::*;
pub use layers::*;
pub use machine::*;
pub use names::*;
pub use revert::*;
pub use trees::*;

use uuid::Uuid;
use xlsnap_orchestrator::{Below, CreateReport, CreateRequest, Error, Inventory, LayerFile, Row, Selection};
use xlsnap_types::model::{DiskName, ImageFormat, SnapshotName};

use super::{Backend, DiskKind, TestDisk};

fn disk(name: &str) -> DiskName {
    DiskName::new(name).expect("a case gives valid names")
}

fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).expect("a case gives valid names")
}

fn test_disk(name: &str, kind: DiskKind) -> TestDisk {
    TestDisk { name: disk(name), kind }
}

fn two_disks() -> [TestDisk; 2] {
    [test_disk("vda", DiskKind::Qcow2), test_disk("vdb", DiskKind::Qcow2)]
}

fn id() -> Uuid {
    Uuid::new_v4()
}

fn named(given: &str) -> CreateRequest {
    CreateRequest { name: Some(name(given)), ..CreateRequest::default() }
}

fn excluding(given: &str, except: &str) -> CreateRequest {
    let selection = Selection { except: [disk(except)].into(), ..Selection::default() };
    CreateRequest { selection, ..named(given) }
}

/// A backend with these disks, running where it can run.
async fn begin<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W, disks: &[TestDisk]) -> W {
    let mut backend = make(disks).await;
    if backend.capabilities().live {
        backend.start().await;
    }
    backend
}

/// Makes it off, if it runs.
async fn off(backend: &mut impl Backend) {
    if backend.capabilities().live {
        backend.stop().await;
    }
}

/// Makes it run again, if it can.
async fn on(backend: &mut impl Backend) {
    if backend.capabilities().live {
        backend.start().await;
    }
}

async fn create(backend: &impl Backend, request: &CreateRequest) -> Result<CreateReport, Error> {
    xlsnap_orchestrator::create(&backend.ports(), &backend.domain(), request, id()).await
}

/// Creates what must succeed.
async fn created(backend: &impl Backend, given: &str) -> CreateReport {
    create(backend, &named(given))
        .await
        .unwrap_or_else(|e| panic!("snapshot {given} is not made: {}", told(&e)))
}

/// An error as a person would see it.
fn told(error: &Error) -> String {
    let mut text = format!("{error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    format!("{text} [{}]", error.advice().unwrap_or("no advice"))
}

async fn inventory(backend: &impl Backend) -> Inventory {
    backend.ports().disks.inventory().await.expect("the disks can be looked at")
}

/// The names of the snapshots inside a disk's image.
async fn tags(backend: &impl Backend, wanted: &str) -> Vec<String> {
    let inventory = inventory(backend).await;
    let found =
        inventory.disks.iter().find(|d| d.name.as_str() == wanted).expect("the disk is in the inventory");
    found.snapshots.iter().map(|snapshot| snapshot.name.clone()).collect()
}

/// What the image that a disk writes to stands on.
async fn base(backend: &impl Backend, wanted: &str) -> Below {
    let ports = backend.ports();
    let layers = ports.layers.get().expect("it looks below images");
    let layer = LayerFile {
        disk: disk(wanted),
        file: image(backend, wanted).await,
        format: ImageFormat::Qcow2,
        identity: None,
    };
    layers.look(&layer).await.expect("a layer can be looked at").expect("a disk's image is there").base
}

/// The image that a disk writes to.
async fn image(backend: &impl Backend, wanted: &str) -> String {
    let inventory = inventory(backend).await;
    inventory
        .disks
        .into_iter()
        .find(|d| d.name.as_str() == wanted)
        .expect("the disk is in the inventory")
        .image
}

async fn rows(backend: &impl Backend) -> Vec<Row> {
    let listing = xlsnap_orchestrator::list(backend.ports().store, backend.domain().uuid)
        .await
        .expect("the store lists");
    assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
    listing.rows
}

async fn listed(backend: &impl Backend) -> Vec<String> {
    rows(backend).await.into_iter().map(|row| row.name.to_string()).collect()
}

async fn current(backend: &impl Backend) -> Option<String> {
    let record = backend.ports().store.domain_record(backend.domain().uuid).await.expect("the store reads");
    record?.current.map(Into::into)
}

/// No operation is left half done.
async fn assert_settled(backend: &impl Backend) {
    let journal = backend.ports().store.journal(backend.domain().uuid).await.expect("the store reads");
    assert_eq!(journal, None, "a journal is left");
}

/// Everything that an operation could change.
#[derive(Debug, PartialEq)]
struct Everything {
    inventory: Inventory,
    rows: Vec<Row>,
    current: Option<String>,
    contents: Vec<(DiskName, u8)>,
}

async fn everything(backend: &mut impl Backend) -> Everything {
    let inventory = inventory(backend).await;
    let mut contents = Vec::new();
    for found in &inventory.disks {
        contents.push((found.name.clone(), backend.read(&found.name).await));
    }
    assert_settled(backend).await;
    Everything { inventory, rows: rows(backend).await, current: current(backend).await, contents }
}

async fn write_all(backend: &mut impl Backend, pattern: u8) {
    for found in inventory(backend).await.disks {
        if !found.read_only {
            backend.write(&found.name, pattern).await;
        }
    }
}

async fn assert_reads(backend: &mut impl Backend, expected: u8) {
    for found in inventory(backend).await.disks {
        assert_eq!(backend.read(&found.name).await, expected, "disk {} reads another pattern", found.name);
    }
}
