//! Random trees of internal, external and mixed snapshots with random faults, against a model of what each disk of each snapshot
//! holds. `XLSNAP_LAYER_CASES` says how many sequences are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use proptest::prelude::*;
use uuid::Uuid;
use xlsnap_orchestrator::{DeleteRequest, Error, GuestState, KeepName, Kind, recover};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::model::{Owner, SnapshotName, StateFlags};

use crate::common::{Op, assert_whole, name, told};

const DISKS: [&str; 2] = ["vda", "vdb"];

type Contents = [u64; 2];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Guest {
    #[default]
    Off,
    Runs,
    Paused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot {
    contents: Contents,
    parent: Option<SnapshotName>,
    /// What its guest did, if its memory is in it.
    memory: Option<Guest>,
}

/// What a domain is to its user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    guest: Guest,
    contents: Contents,
    snapshots: BTreeMap<SnapshotName, Snapshot>,
    current: Option<SnapshotName>,
}

#[derive(Debug, Clone, Copy)]
enum Kinds {
    Internal,
    External,
    ExternalWithMemory,
    /// The disk with this number is external, the other one is not.
    Mixed(usize),
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Start,
    Stop,
    Pause,
    Write(u64),
    Create(u8, Kinds),
    Delete(u8),
    DeleteUnmerged(u8),
    Branch(u8),
    Revert(u8),
    RevertOffline(u8),
    /// Of one disk, or of all.
    Flatten(Option<usize>),
    FlattenKeep(usize),
}

fn called(at: u8) -> String {
    format!("s{at}")
}

impl Deed {
    fn op(self, guest: Guest) -> Option<Op> {
        Some(match self {
            Self::Create(at, kinds) => {
                let at = called(at);
                match kinds {
                    Kinds::Internal => Op::create(&at),
                    Kinds::ExternalWithMemory if guest != Guest::Off => Op::external_memory(&at, &DISKS),
                    Kinds::External | Kinds::ExternalWithMemory => Op::external(&at, &DISKS),
                    Kinds::Mixed(disk) => Op::external(&at, &[DISKS[disk]]),
                }
            }
            Self::Delete(at) => Op::delete(&called(at)),
            Self::DeleteUnmerged(at) => {
                Op::Delete(DeleteRequest { no_merge: true, ..DeleteRequest::new(name(&called(at))) })
            }
            Self::Branch(at) => Op::branch(&called(at)),
            Self::Revert(at) => Op::revert(&called(at)),
            Self::RevertOffline(at) => Op::offline_revert(&called(at)),
            Self::Flatten(None) => Op::flatten(&[]),
            Self::Flatten(Some(disk)) => Op::flatten(&[DISKS[disk]]),
            Self::FlattenKeep(keep) => Op::flatten_keep(keep),
            Self::Start | Self::Stop | Self::Pause | Self::Write(_) => return None,
        })
    }
}

impl Model {
    /// What it is after a success, or the kind of the refusal.
    fn after(&self, deed: Deed) -> Result<Model, Kind> {
        let mut next = self.clone();
        match deed {
            Deed::Start => next.guest = Guest::Runs,
            Deed::Stop => next.guest = Guest::Off,
            Deed::Pause if next.guest == Guest::Off => {}
            Deed::Pause => next.guest = Guest::Paused,
            Deed::Write(content) => next.contents = [content, content + 1],
            Deed::Create(at, kinds) => {
                let new = name(&called(at));
                if next.snapshots.contains_key(&new) {
                    return Err(Kind::Refused);
                }
                let memory = matches!(kinds, Kinds::ExternalWithMemory)
                    .then_some(self.guest)
                    .filter(|guest| *guest != Guest::Off);
                let parent = next.current.replace(new.clone());
                next.snapshots.insert(new, Snapshot { contents: self.contents, parent, memory });
            }
            Deed::Delete(at) | Deed::DeleteUnmerged(at) | Deed::Branch(at) => {
                let wanted = name(&called(at));
                if !next.snapshots.contains_key(&wanted) {
                    return Err(Kind::NotFound);
                }
                let gone = match deed {
                    Deed::Branch(_) => self.branch(&wanted),
                    _ => [wanted].into(),
                };
                next.remove(&gone);
            }
            Deed::Flatten(_) => {}
            Deed::FlattenKeep(keep) => next.remove(&self.beyond(keep)),
            Deed::Revert(at) | Deed::RevertOffline(at) => {
                let to = name(&called(at));
                let snapshot = next.snapshots.get(&to).ok_or(Kind::NotFound)?;
                next.contents = snapshot.contents;
                next.guest = snapshot.memory.unwrap_or(self.guest);
                next.current = Some(to);
            }
        }
        Ok(next)
    }

    /// The ancestors of now, but for so many of the nearest.
    fn beyond(&self, keep: usize) -> BTreeSet<SnapshotName> {
        let up = |name: &SnapshotName| self.snapshots[name].parent.clone();
        std::iter::successors(self.current.clone(), up).skip(keep).collect()
    }

    fn branch(&self, from: &SnapshotName) -> BTreeSet<SnapshotName> {
        let mut met = BTreeSet::from([from.clone()]);
        // Each round goes one generation down.
        for _ in 0..self.snapshots.len() {
            for (child, snapshot) in &self.snapshots {
                if snapshot.parent.as_ref().is_some_and(|parent| met.contains(parent)) {
                    met.insert(child.clone());
                }
            }
        }
        met
    }

    fn remove(&mut self, gone: &BTreeSet<SnapshotName>) {
        let old = self.snapshots.clone();
        let heir = |mut at: Option<SnapshotName>| {
            while let Some(dead) = at.as_ref().filter(|at| gone.contains(at)) {
                at = old[dead].parent.clone();
            }
            at
        };
        self.snapshots.retain(|name, _| !gone.contains(name));
        for snapshot in self.snapshots.values_mut() {
            snapshot.parent = heir(snapshot.parent.take());
        }
        self.current = heir(self.current.take());
    }
}

/// What is read from a part of a snapshot: from the image that holds its state, or from the snapshot inside it and what that is on.
fn part(backend: &FakeBackend, snapshot: &SnapshotName, disk: &str) -> u64 {
    let record = backend.store().records(FakeBackend::UUID)[snapshot].clone();
    let meta = record.meta.unwrap().disks.into_iter().find(|meta| meta.disk.as_str() == disk).unwrap();
    let part = record.snapshot.disks.iter().find(|part| part.device.as_deref() == Some(disk)).unwrap();
    if part.is_external() {
        let overlay = part.file.clone().unwrap();
        let base = backend.change(&overlay, |image| image.base.clone());
        assert_eq!(base.as_ref(), Some(&meta.image), "{snapshot}: the overlay {overlay} is on its base");
        return backend.read_image(&meta.image);
    }
    let (kept, base) = backend.change(&meta.image, |image| {
        let mut found = image.snapshots.iter().filter(|kept| kept.snapshot.name == snapshot.as_str());
        let kept = found.next().unwrap_or_else(|| panic!("{snapshot} is not in {}", meta.image)).content;
        assert!(found.next().is_none(), "{snapshot} is twice in {}", meta.image);
        (kept, image.base.clone())
    });
    kept.unwrap_or_else(|| backend.read_image(&base.unwrap()))
}

fn guest(backend: &FakeBackend) -> Guest {
    match backend.guest_state() {
        GuestState::On(StateFlags { paused: true, .. }) => Guest::Paused,
        GuestState::On(_) => Guest::Runs,
        _ => Guest::Off,
    }
}

/// What a backend is to its user.
fn seen(backend: &FakeBackend) -> Model {
    let records = backend.store().records(FakeBackend::UUID);
    let snapshots = records.iter().map(|(name, record)| {
        let meta = record.meta.as_ref().unwrap();
        let memory = meta.memory.as_ref().map(|_| {
            let flags = StateFlags::from(&record.snapshot);
            if flags.can_run() { Guest::Runs } else { Guest::Paused }
        });
        let contents = DISKS.map(|disk| part(backend, name, disk));
        (name.clone(), Snapshot { contents, parent: meta.parent.clone(), memory })
    });
    Model {
        guest: guest(backend),
        contents: DISKS.map(|disk| backend.read(disk)),
        snapshots: snapshots.collect(),
        current: backend.store().current(FakeBackend::UUID),
    }
}

/// All operations.
static OPERATIONS: AtomicUsize = AtomicUsize::new(0);
/// The sequences at whose end no snapshot was left.
static EMPTIED: AtomicUsize = AtomicUsize::new(0);

struct Play {
    backend: FakeBackend,
    keep_name: KeepName,
    model: Model,
    done: u128,
    /// Whether layers were to be left, or a merge may have failed.
    left_unmerged: bool,
}

impl Play {
    fn operate(&mut self, op: &Op) -> Result<Vec<String>, Error> {
        self.done += 1;
        let mut op = op.clone();
        if let Op::Create(request) = &mut op {
            request.keep_name = self.keep_name;
        }
        let (ports, domain) = (self.backend.ports(), self.backend.domain());
        // No two operations have one id: tokens are made of it.
        let id = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_0000_0000 + self.done * 0x0101_0101);
        op.run_as(&ports, &domain, id).now_or_never().expect("the backend in memory answers at once")
    }

    fn step(&mut self, deed: Deed, fault: Option<(usize, Fault)>) {
        let about = format!("{deed:?} with {fault:?} in {:#?}", self.model);
        let expected = self.model.after(deed);
        let Some(op) = deed.op(self.model.guest) else {
            match deed {
                Deed::Start => self.backend.start(),
                Deed::Stop => self.backend.stop(),
                Deed::Pause if self.model.guest == Guest::Off => {}
                Deed::Pause => self.backend.pause(),
                Deed::Write(content) => {
                    self.backend.write("vda", content);
                    self.backend.write("vdb", content + 1);
                }
                _ => unreachable!("every other deed is an operation"),
            }
            self.model = expected.unwrap();
            return;
        };
        let flat: &[&str] = match deed {
            Deed::Flatten(Some(disk)) => &DISKS[disk..=disk],
            Deed::Flatten(None) | Deed::FlattenKeep(_) => &DISKS,
            _ => &[],
        };
        let kept = |tag: &str| expected.as_ref().is_ok_and(|next| next.snapshots.contains_key(&name(tag)));
        let is_pinned = |disk: &&str| {
            self.backend.change_disk(disk, |image| {
                image.base.is_some() && image.snapshots.iter().any(|held| kept(&held.snapshot.name))
            })
        };
        let expected = if flat.iter().any(is_pinned) { Err(Kind::Refused) } else { expected };
        OPERATIONS.fetch_add(1, Ordering::Relaxed);
        if let Some((at, fault)) = fault {
            self.backend.faults().plan(at, fault);
        }
        let result = self.operate(&op);
        let struck = self.backend.faults().calls().iter().any(|call| call.fault.is_some());
        let calls = self.backend.faults().calls();
        let met = calls.iter().find(|call| call.fault.is_some()).map(|call| call.method);
        let about =
            format!("{about} (the fault met {met:?}, and it said {:?})", result.as_ref().map_err(told));
        self.left_unmerged |= struck || matches!(deed, Deed::DeleteUnmerged(_));
        let killed = struck && matches!(fault, Some((_, Fault::Torn(_) | Fault::PowerCut(_))));
        self.backend.restart();
        if !struck {
            match (&result, &expected) {
                (Ok(_), Ok(_)) => {}
                (Err(error), Err(kind)) => assert_eq!(error.kind(), *kind, "{about}: {}", told(error)),
                _ => panic!("{about}: {:?}, expected {expected:?}", result.map_err(|e| told(&e))),
            }
        }
        if !struck && result.is_ok() {
            for disk in flat {
                let base = self.backend.change_disk(disk, |image| image.base.clone());
                assert_eq!(base, None, "{about}: {disk} stands on something");
            }
        }
        let recovered = recover(&self.backend.ports(), &self.backend.domain()).now_or_never().unwrap();
        recovered.unwrap_or_else(|e| panic!("{about}: {}", told(&e)));
        assert_whole(&self.backend, &about).now_or_never().unwrap();
        self.backend.faults().clear();
        let now = seen(&self.backend);
        let mut before = self.model.clone();
        let mut after = expected.as_ref().unwrap_or(&before).clone();
        if killed {
            before.guest = now.guest;
            after.guest = now.guest;
        }
        if !struck || result.is_ok() {
            assert_eq!(now, after, "{about}");
        } else {
            let ended = &result.as_ref().map_err(told);
            assert!(
                now == before || now == after,
                "{about}: {ended:?}: neither before nor after ({after:#?}): {now:#?}"
            );
        }
        self.model = now;
    }
}

impl Play {
    /// The files that are neither the domain's own images nor what its disks write to: a copy of what was inside an image is that.
    fn layers(&self) -> BTreeSet<String> {
        let mut files = self.backend.files();
        for disk in DISKS {
            files.remove(&format!("/images/{disk}.qcow2"));
            files.remove(&self.backend.disk(disk).top);
        }
        // The domain's own image, under the name that it has since a new file took its own, is never removed.
        for layer in self.backend.store().layers(FakeBackend::UUID) {
            if layer.owner == Owner::Domain {
                files.remove(&layer.file);
            }
        }
        files
    }

    /// Without snapshots nothing but the domain's own images is left.
    fn delete_all(&mut self) {
        for at in 0..6 {
            if self.model.snapshots.contains_key(&name(&called(at))) {
                self.step(Deed::Delete(at), None);
            }
        }
        assert!(self.model.snapshots.is_empty(), "{:?}", self.model);
        // What was not to be merged is merged by the next deletion that may.
        assert!(self.left_unmerged || self.layers().is_empty(), "{:?}", self.backend.files());
        self.step(Deed::Create(0, Kinds::External), None);
        self.step(Deed::Delete(0), None);
        // A file that could not take the name of the image when it was to has its own since.
        assert!(
            self.layers().is_empty() || self.keep_name == KeepName::Yes && self.left_unmerged,
            "{:?}",
            self.layers()
        );
        EMPTIED.fetch_add(1, Ordering::Relaxed);
    }
}

fn kinds() -> impl Strategy<Value = Kinds> {
    prop_oneof![
        2 => Just(Kinds::Internal),
        4 => Just(Kinds::External),
        1 => Just(Kinds::ExternalWithMemory),
        2 => (0..2usize).prop_map(Kinds::Mixed),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let at = 0..6u8;
    prop_oneof![
        1 => Just(Deed::Start),
        1 => Just(Deed::Stop),
        1 => Just(Deed::Pause),
        4 => (1..1000u64).prop_map(|content| Deed::Write(10 * content)),
        7 => (at.clone(), kinds()).prop_map(|(at, kinds)| Deed::Create(at, kinds)),
        4 => at.clone().prop_map(Deed::Delete),
        1 => at.clone().prop_map(Deed::DeleteUnmerged),
        1 => at.clone().prop_map(Deed::Branch),
        4 => at.clone().prop_map(Deed::Revert),
        1 => at.prop_map(Deed::RevertOffline),
        1 => proptest::option::of(0..2usize).prop_map(Deed::Flatten),
        1 => (0..3usize).prop_map(Deed::FlattenKeep),
    ]
}

fn fault() -> impl Strategy<Value = Option<(usize, Fault)>> {
    let kind = prop_oneof![
        Just(Fault::Refused),
        Just(Fault::Lost(Moment::Before)),
        Just(Fault::Lost(Moment::After)),
        Just(Fault::Crash(Moment::Before)),
        Just(Fault::Crash(Moment::After)),
        (0..3usize).prop_map(Fault::Torn),
        (0..3usize).prop_map(Fault::PowerCut),
    ];
    proptest::option::weighted(0.3, (0..50usize, kind))
}

/// How many sequences are tried.
fn cases() -> u32 {
    std::env::var("XLSNAP_LAYER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500)
}

#[test]
fn every_snapshot_of_a_tree_of_layers_stays_what_it_is() {
    play(|| FakeBackend::qcow2(&DISKS).with_machine(), KeepName::No);
}

/// The same where new files take the names of the disks' images.
#[test]
fn every_snapshot_of_a_tree_stays_what_it_is_under_names_that_are_kept() {
    play(|| FakeBackend::qcow2(&DISKS).with_machine().with_names(), KeepName::Yes);
}

fn play(make: impl Fn() -> FakeBackend, keep_name: KeepName) {
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let deeds = proptest::collection::vec((deed(), fault()), 1..40);
    proptest!(config, |(deeds in deeds)| {
        let backend = make();
        let mut play = Play { backend, keep_name, model: Model::default(), done: 0, left_unmerged: false };
        for (deed, fault) in &deeds {
            play.step(*deed, *fault);
        }
        play.delete_all();
    });
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    println!("{} operations; {} trees were emptied", count(&OPERATIONS), count(&EMPTIED));
}

/// A guest that was paused is there after a crash at any call, whichever way it went.
#[test]
fn a_paused_guest_is_not_lost_with_a_revert_by_a_start() {
    for at in 0..40 {
        let backend = FakeBackend::qcow2(&DISKS).with_machine();
        let mut play =
            Play { backend, keep_name: KeepName::No, model: Model::default(), done: 0, left_unmerged: false };
        for deed in [Deed::Start, Deed::Pause, Deed::Create(5, Kinds::Internal)] {
            play.step(deed, None);
        }
        play.step(Deed::RevertOffline(5), Some((at, Fault::Crash(Moment::Before))));
    }
}
