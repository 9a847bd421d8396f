//! The cases, and what they share.

mod check;
mod create;
mod delete;
mod external;
mod machine;
mod revert;

pub use check::*;
pub use create::*;
pub use delete::*;
pub use external::*;
pub use machine::*;
pub use revert::*;

use uuid::Uuid;
use xlsnap_orchestrator::{CreateReport, CreateRequest, Error, Inventory, Row, Selection};
use xlsnap_types::model::{DiskName, SnapshotName};

use super::{DiskKind, TestDisk, World};

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

/// A world with these disks, running where it can run.
async fn begin<W: World>(make: impl AsyncFn(&[TestDisk]) -> W, disks: &[TestDisk]) -> W {
    let mut world = make(disks).await;
    if world.capabilities().live {
        world.start().await;
    }
    world
}

/// Makes it off, if it runs.
async fn off(world: &mut impl World) {
    if world.capabilities().live {
        world.stop().await;
    }
}

/// Makes it run again, if it can.
async fn on(world: &mut impl World) {
    if world.capabilities().live {
        world.start().await;
    }
}

async fn create(world: &impl World, request: &CreateRequest) -> Result<CreateReport, Error> {
    xlsnap_orchestrator::create(&world.ports(), &world.domain(), request, id()).await
}

/// Creates what must succeed.
async fn created(world: &impl World, given: &str) -> CreateReport {
    create(world, &named(given))
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

async fn inventory(world: &impl World) -> Inventory {
    world.ports().disks.inventory().await.expect("the disks can be looked at")
}

/// The names of the snapshots inside a disk's image.
async fn tags(world: &impl World, wanted: &str) -> Vec<String> {
    let inventory = inventory(world).await;
    let found =
        inventory.disks.iter().find(|d| d.name.as_str() == wanted).expect("the disk is in the inventory");
    found.snapshots.iter().map(|snapshot| snapshot.name.clone()).collect()
}

/// The image that a disk writes to.
async fn image(world: &impl World, wanted: &str) -> String {
    let inventory = inventory(world).await;
    inventory
        .disks
        .into_iter()
        .find(|d| d.name.as_str() == wanted)
        .expect("the disk is in the inventory")
        .image
}

async fn rows(world: &impl World) -> Vec<Row> {
    let listing =
        xlsnap_orchestrator::list(world.ports().store, world.domain().uuid).await.expect("the store lists");
    assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
    listing.rows
}

async fn listed(world: &impl World) -> Vec<String> {
    rows(world).await.into_iter().map(|row| row.name.to_string()).collect()
}

async fn current(world: &impl World) -> Option<String> {
    let record = world.ports().store.domain_record(world.domain().uuid).await.expect("the store reads");
    record?.current.map(Into::into)
}

/// No operation is left half done.
async fn assert_settled(world: &impl World) {
    let journal = world.ports().store.journal(world.domain().uuid).await.expect("the store reads");
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

async fn everything(world: &mut impl World) -> Everything {
    let inventory = inventory(world).await;
    let mut contents = Vec::new();
    for found in &inventory.disks {
        contents.push((found.name.clone(), world.read(&found.name).await));
    }
    assert_settled(world).await;
    Everything { inventory, rows: rows(world).await, current: current(world).await, contents }
}

async fn write_all(world: &mut impl World, pattern: u8) {
    for found in inventory(world).await.disks {
        if !found.read_only {
            world.write(&found.name, pattern).await;
        }
    }
}

async fn assert_reads(world: &mut impl World, expected: u8) {
    for found in inventory(world).await.disks {
        assert_eq!(world.read(&found.name).await, expected, "disk {} reads another pattern", found.name);
    }
}
