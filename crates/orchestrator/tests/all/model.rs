//! Random sequences of operations with random faults, against a model of a dozen lines.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use proptest::prelude::*;
use xlsnap_orchestrator::{GuestState, Kind, recover};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};
use xlsnap_types::model::SnapshotName;

use crate::common::{Op, assert_whole, name, told};

const DISKS: [&str; 2] = ["vda", "vdb"];

/// What a domain is to its user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    running: bool,
    content: u64,
    /// Each snapshot: what it keeps, and the one before it.
    snapshots: BTreeMap<SnapshotName, (u64, Option<SnapshotName>)>,
    current: Option<SnapshotName>,
}

#[derive(Debug, Clone)]
enum Deed {
    Start,
    Stop,
    Write(u64),
    Create(u8),
    Delete(u8),
    Branch(u8),
    Revert(u8),
    SafeRevert(u8, u8),
}

fn called(at: u8) -> String {
    format!("s{at}")
}

impl Deed {
    fn op(&self) -> Option<Op> {
        Some(match self {
            Self::Create(at) => Op::create(&called(*at)),
            Self::Delete(at) => Op::delete(&called(*at)),
            Self::Branch(at) => Op::branch(&called(*at)),
            Self::Revert(at) => Op::revert(&called(*at)),
            Self::SafeRevert(at, safety) => Op::safe_revert(&called(*at), &called(*safety)),
            _ => return None,
        })
    }
}

impl Model {
    /// The states that an operation leads through; the last is its success. Or the kind of its refusal.
    fn after(&self, deed: &Deed) -> Result<Vec<Model>, Kind> {
        let mut next = self.clone();
        match deed {
            Deed::Start => next.running = true,
            Deed::Stop => next.running = false,
            Deed::Write(content) => next.content = *content,
            Deed::Create(at) => next.create(*at)?,
            Deed::Delete(at) | Deed::Branch(at) => {
                let wanted = name(&called(*at));
                if !next.snapshots.contains_key(&wanted) {
                    return Err(Kind::NotFound);
                }
                let mut gone = BTreeSet::from([wanted]);
                if matches!(deed, Deed::Branch(_)) {
                    next.add_descendants(&mut gone);
                }
                next.remove(&gone);
            }
            Deed::Revert(at) => next.revert(*at)?,
            Deed::SafeRevert(at, safety) => {
                next.clone().revert(*at)?;
                next.create(*safety)?;
                let safe = next.clone();
                next.revert(*at)?;
                return Ok(vec![safe, next]);
            }
        }
        Ok(vec![next])
    }

    fn create(&mut self, at: u8) -> Result<(), Kind> {
        let new = name(&called(at));
        if self.snapshots.contains_key(&new) {
            return Err(Kind::Refused);
        }
        self.snapshots.insert(new.clone(), (self.content, self.current.clone()));
        self.current = Some(new);
        Ok(())
    }

    fn revert(&mut self, at: u8) -> Result<(), Kind> {
        let to = name(&called(at));
        let (content, _) = self.snapshots.get(&to).ok_or(Kind::NotFound)?;
        if self.running {
            return Err(Kind::Refused);
        }
        self.content = *content;
        self.current = Some(to);
        Ok(())
    }

    fn add_descendants(&self, gone: &mut BTreeSet<SnapshotName>) {
        // Each round goes one generation down.
        for _ in 0..self.snapshots.len() {
            for (child, (_, parent)) in &self.snapshots {
                if parent.as_ref().is_some_and(|parent| gone.contains(parent)) {
                    gone.insert(child.clone());
                }
            }
        }
    }

    fn remove(&mut self, gone: &BTreeSet<SnapshotName>) {
        let old = self.snapshots.clone();
        let heir = |mut at: Option<SnapshotName>| {
            while let Some(dead) = at.as_ref().filter(|at| gone.contains(at)) {
                at = old[dead].1.clone();
            }
            at
        };
        self.snapshots.retain(|name, _| !gone.contains(name));
        for (_, parent) in self.snapshots.values_mut() {
            *parent = heir(parent.take());
        }
        self.current = heir(self.current.take());
    }
}

/// What a backend is to its user.
fn seen(backend: &FakeBackend) -> Model {
    let kept = |name: &SnapshotName| {
        let contents = DISKS.map(|disk| {
            backend.change_disk(disk, |image| {
                let found: Vec<_> =
                    image.snapshots.iter().filter(|k| k.snapshot.name == name.as_str()).collect();
                assert_eq!(found.len(), 1, "{name} on {disk}");
                found[0].content.unwrap()
            })
        });
        assert_eq!(contents[0], contents[1], "{name} keeps different times");
        contents[0]
    };
    let records = backend.store().records(FakeBackend::UUID);
    let snapshots = records
        .iter()
        .map(|(name, record)| (name.clone(), (kept(name), record.meta.as_ref().unwrap().parent.clone())));
    let contents = DISKS.map(|disk| backend.read(disk));
    assert_eq!(contents[0], contents[1], "the disks are of different times");
    Model {
        running: backend.guest_state() != GuestState::Off,
        content: contents[0],
        snapshots: snapshots.collect(),
        current: backend.store().current(FakeBackend::UUID),
    }
}

fn run(backend: &FakeBackend, model: &mut Model, deed: &Deed, fault: Option<(usize, Fault)>) {
    let about = format!("{deed:?} with {fault:?} in {model:?}");
    let expected = model.after(deed);
    let Some(op) = deed.op() else {
        match deed {
            Deed::Start => backend.start(),
            Deed::Stop => backend.stop(),
            Deed::Write(content) => DISKS.iter().for_each(|disk| backend.write(disk, *content)),
            _ => unreachable!("every other deed is an operation"),
        }
        *model = expected.unwrap().remove(0);
        return;
    };
    if let Some((at, fault)) = fault {
        backend.faults().plan(at, fault);
    }
    let result = op.run(backend).now_or_never().expect("the backend in memory answers at once");
    let struck = backend.faults().calls().iter().any(|call| call.fault.is_some());
    backend.restart();
    if !struck {
        match (&result, &expected) {
            (Ok(warnings), Ok(_)) => assert!(warnings.is_empty(), "{about}: {warnings:?}"),
            (Err(error), Err(kind)) => assert_eq!(error.kind(), *kind, "{about}: {}", told(error)),
            _ => panic!("{about}: {:?}, expected {expected:?}", result.map_err(|e| told(&e))),
        }
    }
    recover(&backend.ports(), &backend.domain())
        .now_or_never()
        .unwrap()
        .unwrap_or_else(|e| panic!("{about}: {}", told(&e)));
    assert_whole(backend, &about).now_or_never().unwrap();
    backend.faults().clear();
    let now = seen(backend);
    let before = Model { running: now.running, ..model.clone() };
    let mut after = expected.clone().unwrap_or_default();
    after.iter_mut().for_each(|state| state.running = now.running);
    if !struck {
        assert_eq!(now.running, model.running, "{about}");
        assert_eq!(&now, after.last().unwrap_or(&before), "{about}");
    } else if result.is_ok() {
        assert_eq!(Some(&now), after.last(), "{about}: it says that it worked");
    } else {
        assert!(now == before || after.contains(&now), "{about}: neither before nor after: {now:?}");
    }
    *model = now;
}

fn deed() -> impl Strategy<Value = Deed> {
    let at = 0..5u8;
    prop_oneof![
        1 => Just(Deed::Start),
        2 => Just(Deed::Stop),
        3 => (1..1000u64).prop_map(Deed::Write),
        5 => at.clone().prop_map(Deed::Create),
        2 => at.clone().prop_map(Deed::Delete),
        1 => at.clone().prop_map(Deed::Branch),
        3 => at.clone().prop_map(Deed::Revert),
        1 => (at.clone(), at).prop_map(|(to, safety)| Deed::SafeRevert(to, safety)),
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
    proptest::option::of((0..25usize, kind))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_domain_is_what_the_model_says(deeds in proptest::collection::vec((deed(), fault()), 1..25)) {
        let backend = FakeBackend::qcow2(&DISKS);
        let mut model = Model::default();
        for (deed, fault) in &deeds {
            run(&backend, &mut model, deed, *fault);
        }
    }
}
