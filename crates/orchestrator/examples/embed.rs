//! The orchestrator with backends of one's own: a "machine" whose disks are strings, and whose connection breaks.
//!
//! `cargo run --example embed`

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_conf_store::FsStore;
use xlsnap_orchestrator::{
    Bitmap, Can, Clock, CreateRequest, Disk, Disks, DomainRef, Effect, Guest, GuestState, ImageSnapshot,
    Inventory, PortError, PortErrorKind, Ports, Progress, RevertRequest, SnapshotAction, SnapshotId, Stage,
    Step, create, plan_create, recover, revert,
};
use xlsnap_types::model::{DiskName, ImageFormat, SnapshotName};

/// A disk: what it holds, and what its snapshots keep.
#[derive(Default)]
struct Content {
    now: String,
    kept: Vec<(String, String)>,
}

/// All disks of the machine, behind a connection.
#[derive(Default)]
struct Machine {
    disks: Mutex<BTreeMap<DiskName, Content>>,
    /// The connection breaks within the next transaction, after its first disk.
    breaks: AtomicBool,
    broken: AtomicBool,
}

impl Machine {
    fn write(&self, text: &str) {
        for content in self.disks.lock().expect("no holder panics").values_mut() {
            text.clone_into(&mut content.now);
        }
    }

    fn on<T>(&self, disk: &DiskName, act: impl FnOnce(&mut Content) -> Option<T>) -> Result<T, PortError> {
        self.connection()?;
        let mut disks = self.disks.lock().expect("no holder panics");
        let done = disks.get_mut(disk).and_then(act);
        done.ok_or_else(|| {
            PortError::new(PortErrorKind::NotFound, Effect::None, format!("disk {disk} has no such thing"))
        })
    }

    fn connection(&self) -> Result<(), PortError> {
        if self.broken.load(Ordering::Relaxed) {
            // Whether the machine did what it was asked is not known: the orchestrator looks, now or later.
            return Err(PortError::new(
                PortErrorKind::Unreachable,
                Effect::Unknown,
                "the connection to the machine is lost",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl Disks for Machine {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        self.connection()?;
        let disks = self.disks.lock().expect("no holder panics");
        let disks = disks.iter().map(|(name, content)| Disk {
            external: Can::no("the machine's disks are not files"),
            snapshots: content
                .kept
                .iter()
                .map(|(tag, _)| ImageSnapshot {
                    id: format!("id-{tag}"),
                    name: tag.clone(),
                    date: 0,
                    vm_state_size: 0,
                })
                .collect(),
            ..Disk::new(
                name.clone(),
                format!("machine:{name}"),
                ImageFormat::Other("string".to_owned()),
                1024,
            )
        });
        Ok(Inventory { disks: disks.collect(), ..Inventory::default() })
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        for action in actions {
            let SnapshotAction::Internal { disk, tag, .. } = action else {
                let message = "the machine's disks are not files";
                return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
            };
            self.on(disk, |content| {
                let now = content.now.clone();
                content.kept.push((tag.clone(), now));
                Some(())
            })?;
            self.broken.store(self.breaks.swap(false, Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(())
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.on(disk, |content| {
            let at = content.kept.iter().position(|(tag, _)| *tag == snapshot.name)?;
            content.kept.remove(at);
            Some(())
        })
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.on(disk, |content| {
            let (_, kept) = content.kept.iter().find(|(tag, _)| *tag == snapshot.name)?;
            content.now = kept.clone();
            Some(())
        })
    }

    async fn drop_bitmap(&self, _disk: &DiskName, _bitmap: &Bitmap) -> Result<(), PortError> {
        Ok(())
    }
}

/// The machine is always off, the time is the host's, and every step is told.
struct Host(Instant);

#[async_trait]
impl Guest for Host {
    async fn state(&self) -> Result<GuestState, PortError> {
        Ok(GuestState::Off)
    }
}

impl Clock for Host {
    fn epoch_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Progress for Host {
    fn step(&self, number: usize, total: usize, what: &str) {
        println!("  [{number}/{total}] {what}");
    }

    fn bytes(&self, done: u64, _total: Option<u64>) {
        println!("  {done} bytes");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let machine = Machine::default();
    for name in ["system", "data"] {
        machine.disks.lock().expect("no holder panics").insert(name.parse()?, Content::default());
    }
    let directory = tempfile::tempdir()?;
    let store = FsStore::new(directory.path().join("snapshots"));
    let host = Host(Instant::now());
    let ports = Ports::new(&host, &machine, &store, &host, &host);
    let domain = DomainRef {
        uuid: Uuid::new_v4(),
        name: "toy".to_owned(),
        pid: std::process::id(),
        lock_wait: Duration::ZERO,
    };

    machine.write("old");
    let name = SnapshotName::new("before-upgrade")?;
    let request = CreateRequest { name: Some(name.clone()), ..CreateRequest::default() };
    println!("a dry run:");
    let plan = plan_create(&ports, &domain, &request, Uuid::new_v4()).await?;
    for step in plan.stages.iter().flat_map(Stage::steps).filter_map(Step::text) {
        println!("  {}", step.what);
    }

    println!("the connection breaks after the first disk:");
    machine.breaks.store(true, Ordering::Relaxed);
    let error = create(&ports, &domain, &request, Uuid::new_v4()).await.expect_err("the connection breaks");
    println!("  {:?}: {error}", error.kind());
    machine.broken.store(false, Ordering::Relaxed);
    let recovered = recover(&ports, &domain).await?.expect("half a snapshot was left");
    println!("  {recovered}");

    println!("again, with a connection that holds:");
    create(&ports, &domain, &request, Uuid::new_v4()).await?;
    machine.write("new");
    revert(&ports, &domain, &RevertRequest::new(name), Uuid::new_v4()).await?;
    for (name, content) in machine.disks.lock().expect("no holder panics").iter() {
        println!("  disk {name} holds {:?}", content.now);
        assert_eq!(content.now, "old");
    }
    Ok(())
}
