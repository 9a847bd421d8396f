//! What no honest backend does: backends that lie, and exactly what is asked of them then.

use async_trait::async_trait;
use mockall::mock;
use mockall::predicate::eq;
use uuid::Uuid;
use xlsnap_orchestrator::{
    Bitmap, Can, CreateRequest, Disk, DiskChoice, Disks, Effect, ImageFile, ImageSnapshot, Inventory, Kind,
    Overlay, Overlays, Port, PortError, PortErrorKind, Ports, RevertRequest, SnapshotAction, SnapshotId,
    create, revert,
};
use xlsnap_testkit::fake::FakeBackend;
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::common::{disk, name, told};

mock! {
    pub(crate) Backend {}

    #[async_trait]
    impl Disks for Backend {
        async fn inventory(&self) -> Result<Inventory, PortError>;
        async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError>;
        async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError>;
        async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError>;
        async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError>;
    }

    #[async_trait]
    impl Overlays for Backend {
        async fn exists(&self, file: &str) -> Result<bool, PortError>;
        async fn beside(&self, files: &[String]) -> Result<Vec<(String, String)>, PortError>;
        async fn place(&self, base: &str, file: &str) -> Result<Can, PortError>;
        async fn make(&self, overlay: &Overlay) -> Result<(), PortError>;
        async fn discard(&self, overlay: &Overlay) -> Result<(), PortError>;
        async fn described(&self) -> Result<Vec<(DiskName, ImageFile)>, PortError>;
        async fn adopt(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError>;
    }
}

fn image(at: &str, tags: &[&str]) -> Disk {
    let inside =
        |tag: &&str| ImageSnapshot { id: "1".to_owned(), name: (*tag).to_owned(), date: 0, vm_state_size: 0 };
    Disk {
        snapshots: tags.iter().map(inside).collect(),
        ..Disk::new(disk(at), format!("/images/{at}.qcow2"), ImageFormat::Qcow2, 1 << 20)
    }
}

fn inventory(disks: Vec<Disk>) -> Result<Inventory, PortError> {
    Ok(Inventory { disks, ..Inventory::default() })
}

fn request() -> CreateRequest {
    CreateRequest { name: Some(name("s")), ..CreateRequest::default() }
}

/// Two programs with one image: the other one's list of snapshots overwrote ours.
#[tokio::test]
async fn a_snapshot_that_is_not_there_after_success_is_undone() {
    let backend = FakeBackend::qcow2(&[]);
    let mut disks = MockBackend::new();
    let mut looks = 0;
    disks.expect_inventory().returning(move || {
        looks += 1;
        // Nothing at first, then a snapshot on one disk only, which is taken away again.
        inventory(vec![image("vda", if looks > 1 { &["s"] } else { &[] }), image("vdb", &[])])
    });
    disks.expect_snapshot().times(1).returning(|_| Ok(()));
    let ours = SnapshotId { name: "s".to_owned(), id: "1".to_owned() };
    disks.expect_delete().with(eq(disk("vda")), eq(ours)).times(1).returning(|_, _| Ok(()));
    let ports = Ports { disks: &disks, ..backend.ports() };
    let error = create(&ports, &backend.domain(), &request(), Uuid::nil()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::None), "{}", told(&error));
    assert!(backend.store().records(FakeBackend::UUID).is_empty());
    assert_eq!(backend.store().left_journal(FakeBackend::UUID), None);
}

/// A file that came between the look and the making of the overlay is its owner's: it is not discarded.
#[tokio::test]
async fn a_file_that_came_in_between_is_not_discarded() {
    let backend = FakeBackend::qcow2(&[]);
    let mut disks = MockBackend::new();
    disks.expect_inventory().returning(|| inventory(vec![image("vda", &[]), image("vdb", &[])]));
    disks.expect_exists().returning(|_| Ok(false));
    disks.expect_place().returning(|_, _| Ok(Can::Yes));
    disks.expect_make().withf(|overlay| overlay.disk == disk("vda")).times(1).returning(|_| Ok(()));
    disks.expect_make().withf(|overlay| overlay.disk == disk("vdb")).times(1).returning(|overlay| {
        Err(PortError::new(PortErrorKind::AlreadyExists, Effect::None, format!("{} is there", overlay.file)))
    });
    // Only the one that was made.
    disks.expect_discard().withf(|overlay| overlay.disk == disk("vda")).times(1).returning(|_| Ok(()));
    let ports = Ports { disks: &disks, overlays: Port::Has(&disks), ..backend.ports() };
    let external = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
    let request = CreateRequest { default_choice: external, ..request() };
    let error = create(&ports, &backend.domain(), &request, Uuid::nil()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::None), "{}", told(&error));
    assert!(told(&error).contains("vdb"), "{}", told(&error));
    assert_eq!(backend.store().left_journal(FakeBackend::UUID), None);
}

/// Every failing disk is named, the first as the cause and the others beside it.
#[tokio::test]
async fn a_revert_names_every_disk_that_failed() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    create(&backend.ports(), &backend.domain(), &request(), Uuid::nil()).await.unwrap();
    let mut disks = MockBackend::new();
    disks.expect_inventory().returning(|| inventory(vec![image("vda", &["s"]), image("vdb", &["s"])]));
    // The marks.
    disks.expect_snapshot().times(1).returning(|_| Ok(()));
    disks.expect_revert().times(2).returning(|at, _| {
        Err(PortError::new(PortErrorKind::Busy, Effect::None, format!("another process has {at}")))
    });
    let ports = Ports { disks: &disks, ..backend.ports() };
    let wanted = RevertRequest::new(name("s"));
    let error = revert(&ports, &backend.domain(), &wanted, Uuid::nil()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Busy, Effect::None), "{}", told(&error));
    assert!(
        told(&error).contains("another process has vda") && told(&error).contains("another process has vdb"),
        "{}",
        told(&error)
    );
    assert_eq!(backend.store().left_journal(FakeBackend::UUID), None, "no disk was touched");
}
