//! Undo points: the disks of a guest that stands still go to a snapshot and back, and the guest goes on without a reset.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;
use xlsnap_orchestrator::{
    Bitmap, CreateRequest, Disks, DomainRef, Effect, Health, ImageHealth, Inventory, Kind, Outcome, Pause,
    Port, PortError, PortErrorKind, Ports, Power, Release, RevertRequest, SnapshotAction, SnapshotId, create,
    recover, revert,
};
use xlsnap_qemu::Machine;
use xlsnap_testkit::fake::MemStore;
use xlsnap_testkit::real::guest::Console;
use xlsnap_testkit::real::{DEADLINE, wait_until};
use xlsnap_types::model::{DiskName, SnapshotName};

use crate::behaviour::WallClock;
use crate::guest::counting;
use crate::rig::{Rig, Unwatched, ports_of, told};
use crate::save::internal;

fn both(tag: &str) -> [SnapshotAction; 2] {
    [internal("vda", tag), internal("vdb", tag)]
}

/// Makes the disks' content that of the snapshot `tag`.
async fn go(machine: &Machine, disks: &[&str], tag: &str) {
    for disk in machine.inventory().await.unwrap().disks {
        if disks.contains(&disk.name.as_str()) {
            machine.revert(&disk.name, &id_of(&disk.snapshots, tag)).await.unwrap();
        }
    }
}

fn id_of(snapshots: &[xlsnap_orchestrator::ImageSnapshot], tag: &str) -> SnapshotId {
    let id = snapshots.iter().find(|snapshot| snapshot.name == tag).unwrap().id.clone();
    SnapshotId { name: tag.to_owned(), id }
}

/// The names of the snapshots on each disk.
async fn tags(machine: &Machine) -> Vec<Vec<String>> {
    let disks = machine.inventory().await.unwrap().disks;
    disks.into_iter().map(|disk| disk.snapshots.into_iter().map(|snapshot| snapshot.name).collect()).collect()
}

/// Ends the domain; nothing in its images is wrong or lost.
async fn ends_whole(machine: &Machine) {
    machine.end().await.unwrap();
    for disk in ["vda", "vdb"] {
        let health = machine.examine(&disk.parse().unwrap()).await.unwrap();
        assert_eq!(health, Some(ImageHealth::default()), "{disk}");
    }
}

/// The guest goes on counting from where it was, in one run, and finds nothing changed.
fn goes_on(console: &Console, last: u64, about: &str) -> u64 {
    let now = console.wait_tick_beyond(last + 20, DEADLINE);
    assert_eq!(console.disagreement(), None, "{about}");
    assert_eq!(console.runs().len(), 1, "{about}: it was neither booted nor put back");
    now
}

#[tokio::test]
async fn a_guest_finds_nothing_changed_after_its_disks_went_there_and_back() {
    let (rig, serial) = counting();
    let machine = rig.started().await;
    let mut console = Console::from_now(&serial);
    console.wait_tick_beyond(10, DEADLINE);
    machine.snapshot(&both("target")).await.unwrap();
    console.forget();
    let mut last = console.wait_tick_beyond(20, DEADLINE);
    let pid = rig.pid();
    for (round, disks) in [&["vda"][..], &["vdb"], &["vda", "vdb"], &["vda", "vdb"]].into_iter().enumerate() {
        let (about, mark) = (format!("round {round}: {disks:?}"), format!("xlsnap-undo-t{round}"));
        machine.stop().await.unwrap();
        machine.snapshot(&both(&mark)).await.unwrap();
        machine.release().await.unwrap();
        go(&machine, disks, "target").await;
        go(&machine, &["vda", "vdb"], &mark).await;
        machine.take_back().await.unwrap();
        machine.resume().await.unwrap();
        last = goes_on(&console, last, &about);
        for disk in machine.inventory().await.unwrap().disks {
            machine.delete(&disk.name, &id_of(&disk.snapshots, &mark)).await.unwrap();
        }
        assert_eq!(tags(&machine).await, [["target"]; 2], "{about}");
        last = goes_on(&console, last, &about);
    }
    assert_eq!((rig.pid(), rig.status().as_str()), (pid, "running"));
    ends_whole(&machine).await;
}

/// What fails, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    RevertOfVdb,
    /// After its effect, which is not known.
    RevertOfVdbUnknown,
    TakeBack,
    Release,
}

/// A machine of which one call fails.
struct Failing<'a> {
    machine: &'a Machine,
    fails: Mutex<Option<Fails>>,
}

impl Failing<'_> {
    fn fails(&self, at: Fails) -> bool {
        let mut fails = self.fails.lock().unwrap();
        let now = *fails == Some(at);
        if now {
            *fails = None;
        }
        now
    }
}

fn failure(effect: Effect) -> PortError {
    PortError::new(PortErrorKind::Failed, effect, "it is made to fail")
}

#[async_trait]
impl Disks for Failing<'_> {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        self.machine.inventory().await
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        self.machine.snapshot(actions).await
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.machine.delete(disk, snapshot).await
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        if disk.as_str() == "vdb" && self.fails(Fails::RevertOfVdb) {
            return Err(failure(Effect::None));
        }
        self.machine.revert(disk, snapshot).await?;
        if disk.as_str() == "vdb" && self.fails(Fails::RevertOfVdbUnknown) {
            return Err(failure(Effect::Unknown));
        }
        Ok(())
    }

    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError> {
        self.machine.drop_bitmap(disk, bitmap).await
    }
}

#[async_trait]
impl Release for Failing<'_> {
    async fn release(&self) -> Result<(), PortError> {
        if self.fails(Fails::Release) {
            return Err(failure(Effect::None));
        }
        self.machine.release().await
    }

    async fn take_back(&self) -> Result<(), PortError> {
        if self.fails(Fails::TakeBack) {
            return Err(failure(Effect::None));
        }
        self.machine.take_back().await
    }
}

fn domain() -> DomainRef {
    let lock_wait = Duration::from_secs(1);
    DomainRef { uuid: Uuid::from_u128(9), name: "guest".into(), pid: std::process::id(), lock_wait }
}

/// A snapshot `target` of a guest that counts, with a record.
async fn recorded(rig: &Rig, serial: &Path) -> (Machine, MemStore, WallClock, Console, u64) {
    let machine = rig.started().await;
    let (store, clock) = (MemStore::default(), WallClock::now());
    let mut console = Console::from_now(serial);
    console.wait_tick_beyond(10, DEADLINE);
    let request =
        CreateRequest { name: Some(SnapshotName::new("target").unwrap()), ..CreateRequest::default() };
    let ports = ports_of(&machine, &store, &clock, &Unwatched);
    create(&ports, &domain(), &request, Uuid::new_v4()).await.unwrap();
    console.forget();
    let last = console.wait_tick_beyond(20, DEADLINE);
    (machine, store, clock, console, last)
}

#[tokio::test]
async fn a_revert_that_fails_loses_the_guest_nothing() {
    let (rig, serial) = counting();
    let (machine, store, clock, console, mut last) = recorded(&rig, &serial).await;
    let pid = rig.pid();
    let request = RevertRequest::new(SnapshotName::new("target").unwrap());
    for fails in [Fails::RevertOfVdb, Fails::RevertOfVdbUnknown, Fails::TakeBack, Fails::Release] {
        let failing = Failing { machine: &machine, fails: Mutex::new(Some(fails)) };
        let ports = Ports {
            disks: &failing,
            release: Port::Has(&failing),
            ..ports_of(&machine, &store, &clock, &Unwatched)
        };
        let error = revert(&ports, &domain(), &request, Uuid::new_v4()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (Kind::Failed, Effect::None),
            "{fails:?}: {}",
            told(&error)
        );
        assert_eq!(*failing.fails.lock().unwrap(), None, "{fails:?}");
        last = goes_on(&console, last, &format!("{fails:?}"));
        assert_eq!(tags(&machine).await, [["target"]; 2], "{fails:?}");
        assert_eq!(store.left_journal(domain().uuid), None, "{fails:?}");
    }
    assert_eq!((rig.pid(), rig.status().as_str()), (pid, "running"));
    ends_whole(&machine).await;
}

/// The program is gone in the middle, and another brings the revert to its end.
#[tokio::test]
async fn a_revert_that_is_cut_short_ends_in_one_of_two_states() {
    let (rig, serial) = counting();
    let (mut machine, store, clock, mut console, mut last) = recorded(&rig, &serial).await;
    let pid = rig.pid();
    let request = RevertRequest::new(SnapshotName::new("target").unwrap());
    for at in [Gone::AfterRelease, Gone::BeforeTakeBack, Gone::AfterTakeBack] {
        {
            let leaving = Leaving { machine: &machine, at, gone: Notify::new() };
            let ports =
                Ports { release: Port::Has(&leaving), ..ports_of(&machine, &store, &clock, &Unwatched) };
            let domain = domain();
            tokio::select! {
                ended = revert(&ports, &domain, &request, Uuid::new_v4()) => panic!("{at:?}: {ended:?}"),
                () = leaving.gone.notified() => {}
            }
        }
        drop(machine);
        machine = rig.reach_soon().await;
        let ports = ports_of(&machine, &store, &clock, &Unwatched);
        let recovered = recover(&ports, &domain()).await.unwrap_or_else(|e| panic!("{at:?}: {}", told(&e)));
        match recovered.unwrap().outcome {
            Outcome::Undone => last = goes_on(&console, last, &format!("{at:?}")),
            Outcome::Completed => {
                // It was reset, and finds on its disks what they held at the snapshot.
                let found = wait_until("it boots", || Some(console.found()).filter(|found| found.len() == 2));
                let counts: Vec<u64> = found.iter().map(|found| found.last.unwrap().1).collect();
                assert!(counts.iter().all(|count| *count < last), "{at:?}: {counts:?}, and {last} was after");
                console.forget();
                last = console.wait_tick_beyond(last, DEADLINE);
                assert_eq!(console.disagreement(), None, "{at:?}");
            }
        }
        assert_eq!(tags(&machine).await, [["target"]; 2], "{at:?}");
        assert_eq!(store.left_journal(domain().uuid), None, "{at:?}");
    }
    assert_eq!((rig.pid(), rig.status().as_str()), (pid, "running"));
    ends_whole(&machine).await;
}

/// Where the program is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    AfterRelease,
    BeforeTakeBack,
    AfterTakeBack,
}

/// A machine that is left in the middle: the call never answers.
struct Leaving<'a> {
    machine: &'a Machine,
    at: Gone,
    gone: Notify,
}

impl Leaving<'_> {
    async fn leaves(&self, at: Gone) {
        if self.at == at {
            self.gone.notify_one();
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Release for Leaving<'_> {
    async fn release(&self) -> Result<(), PortError> {
        self.machine.release().await?;
        self.leaves(Gone::AfterRelease).await;
        Ok(())
    }

    async fn take_back(&self) -> Result<(), PortError> {
        self.leaves(Gone::BeforeTakeBack).await;
        self.machine.take_back().await?;
        self.leaves(Gone::AfterTakeBack).await;
        Ok(())
    }
}
