//! Random trees of internal, external and mixed snapshots, against a model of what each holds.

use std::collections::{BTreeMap, BTreeSet};

use xlsnap_orchestrator::{
    DeleteRequest, DiskChoice, FlattenRequest, Kind, RevertRequest, delete, flatten, revert,
};
use xlsnap_types::model::ImageFormat;

use super::*;

/// A source of choices (splitmix64).
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What is to be: of the disk vda; vdb has 100 more.
#[derive(Debug, Default)]
struct Model {
    now: u8,
    held: BTreeMap<String, u8>,
    parents: BTreeMap<String, Option<String>>,
    current: Option<String>,
    on: bool,
}

impl Model {
    fn branch(&self, from: &str) -> BTreeSet<String> {
        let mut met = BTreeSet::from([from.to_owned()]);
        // Each round goes one generation down.
        for _ in 0..self.parents.len() {
            for (child, parent) in &self.parents {
                if parent.as_ref().is_some_and(|parent| met.contains(parent)) {
                    met.insert(child.clone());
                }
            }
        }
        met
    }

    fn remove(&mut self, gone: &BTreeSet<String>) {
        let old = self.parents.clone();
        let heir = |mut at: Option<String>| {
            while let Some(dead) = at.as_ref().filter(|at| gone.contains(*at)) {
                at = old[dead].clone();
            }
            at
        };
        self.held.retain(|name, _| !gone.contains(name));
        self.parents.retain(|name, _| !gone.contains(name));
        for parent in self.parents.values_mut() {
            *parent = heir(parent.take());
        }
        self.current = heir(self.current.take());
    }
}

/// Whether a disk's image holds snapshots that are read through it from below.
async fn is_pinned(backend: &impl Backend, at: &str) -> bool {
    base(backend, at).await != Below::Nothing && !tags(backend, at).await.is_empty()
}

/// Whether a part of one of these is inside an image that its disk does not write to now: while a storage daemon reads that, it is not
/// deleted.
pub(super) async fn is_held_below(backend: &impl Backend, names: &BTreeSet<String>) -> bool {
    for given in names {
        let record = backend.ports().store.load(backend.domain().uuid, &name(given)).await;
        let record = record.unwrap_or_else(|e| panic!("the record of {given}: {e}"));
        for part in record.meta.iter().flat_map(|meta| &meta.disks) {
            let mut disks = record.snapshot.disks.iter();
            let found = disks.find(|found| found.device.as_deref() == Some(part.disk.as_str()));
            if found.is_some_and(|found| !found.is_external())
                && image(backend, part.disk.as_str()).await != part.image
            {
                return true;
            }
        }
    }
    false
}

async fn assert_is(backend: &mut impl Backend, model: &Model, about: &str) {
    assert_eq!(
        listed(backend).await.into_iter().collect::<BTreeSet<_>>(),
        model.held.keys().cloned().collect()
    );
    assert_eq!(current(backend).await, model.current, "{about}");
    for (at, more) in [("vda", 0), ("vdb", 100)] {
        assert_eq!(backend.read(&disk(at)).await, model.now + more, "{about}: {at}");
    }
    for (given, byte) in &model.held {
        let record = backend.ports().store.load(backend.domain().uuid, &name(given)).await;
        let record = record.unwrap_or_else(|e| panic!("{about}: the record of {given}: {e}"));
        for part in &record.meta.expect("it is ours").disks {
            let mut disks = record.snapshot.disks.iter();
            let found = disks.find(|found| found.device.as_deref() == Some(part.disk.as_str()));
            let inside = found.is_some_and(|found| !found.is_external()).then_some(given.as_str());
            let read = backend.read_layer(&part.image, &part.format, inside).await;
            let more = if part.disk.as_str() == "vda" { 0 } else { 100 };
            assert_eq!(read, byte + more, "{about}: {given} of disk {} in {}", part.disk, part.image);
        }
    }
    assert_settled(backend).await;
}

/// Random operations from each seed: after each, every snapshot that is left holds on every disk what it held, and nothing is refused.
/// Gives how many operations there were.
///
/// # Panics
/// When that is not so.
pub async fn any_tree_of_layers_stays_what_it_is<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
    seeds: std::ops::Range<u64>,
    length: usize,
) -> usize {
    let mut operations = 0;
    for seed in seeds {
        let mut choices = Choices(seed);
        let mut backend = begin(&make, &two_disks()).await;
        let mut model = Model { on: backend.capabilities().live, ..Model::default() };
        write(&mut backend, &mut model, 1).await;
        let mut story = Vec::new();
        for step in 0..length {
            let given = format!("s{}", choices.below(6));
            let byte = u8::try_from(2 + step % 90).expect("it is small");
            let about = format!("seed {seed}, step {step}");
            let (deed, done) = match choices.below(13) {
                0 if backend.capabilities().live => {
                    model.on = !model.on;
                    if model.on {
                        backend.start().await;
                    } else {
                        backend.stop().await;
                    }
                    ("power", None)
                }
                0..4 if !model.held.contains_key(&given) => {
                    write(&mut backend, &mut model, byte).await;
                    let external: &[&str] = [&[][..], &["vda", "vdb"], &["vda", "vdb"], &["vda"], &["vdb"]]
                        [usize::try_from(choices.below(5)).expect("it is small")];
                    let choice = DiskChoice::External { file: None, format: ImageFormat::Qcow2 };
                    let disks = external.iter().map(|at| (disk(at), choice.clone())).collect();
                    let made = create(&backend, &CreateRequest { disks, ..named(&given) }).await;
                    made.unwrap_or_else(|e| panic!("{about}: {story:?}: create {given}: {}", told(&e)));
                    let parent = model.current.replace(given.clone());
                    model.held.insert(given.clone(), byte);
                    model.parents.insert(given.clone(), parent);
                    operations += 1;
                    ("create", None)
                }
                0..8 if model.held.contains_key(&given) => {
                    let capabilities = backend.capabilities();
                    let runs = model.on && !capabilities.machine;
                    if runs {
                        backend.stop().await;
                    }
                    write(&mut backend, &mut model, byte).await;
                    let request = RevertRequest::new(name(&given));
                    let done = revert(&backend.ports(), &backend.domain(), &request, id()).await.map(drop);
                    if done.is_ok() {
                        model.now = model.held[&given];
                        model.current = Some(given.clone());
                    }
                    if runs {
                        backend.start().await;
                    }
                    ("revert", Some(done))
                }
                12 => {
                    let stops = model.on && !backend.capabilities().machine;
                    if stops {
                        backend.stop().await;
                    }
                    write(&mut backend, &mut model, byte).await;
                    let pinned = is_pinned(&backend, "vda").await || is_pinned(&backend, "vdb").await;
                    let request = FlattenRequest::default();
                    let done = flatten(&backend.ports(), &backend.domain(), &request, id()).await;
                    match &done {
                        Ok(_) => {
                            for at in ["vda", "vdb"] {
                                assert_eq!(
                                    base(&backend, at).await,
                                    Below::Nothing,
                                    "{about}: {story:?}: {at}"
                                );
                            }
                        }
                        Err(e) => assert!(
                            pinned && e.kind() == Kind::Refused,
                            "{about}: {story:?}: flatten: {}",
                            told(e)
                        ),
                    }
                    if stops {
                        backend.start().await;
                    }
                    operations += 1;
                    ("flatten", None)
                }
                kind if model.held.contains_key(&given) => {
                    let children = kind == 11;
                    let gone = if children { model.branch(&given) } else { [given.clone()].into() };
                    let serves = model.on && !backend.capabilities().machine;
                    let stops = serves && is_held_below(&backend, &gone).await;
                    if stops {
                        backend.stop().await;
                    }
                    write(&mut backend, &mut model, byte).await;
                    let request =
                        DeleteRequest { children, no_merge: kind == 10, ..DeleteRequest::new(name(&given)) };
                    let done = delete(&backend.ports(), &backend.domain(), &request, id()).await.map(drop);
                    if done.is_ok() {
                        model.remove(&gone);
                    }
                    if stops {
                        backend.start().await;
                    }
                    (
                        ["delete", "delete", "delete unmerged", "delete branch"]
                            [usize::try_from(kind).expect("it is small") - 8],
                        Some(done),
                    )
                }
                _ => continue,
            };
            story.push(format!("{deed} {given}"));
            if let Some(done) = done {
                operations += 1;
                done.unwrap_or_else(|e| panic!("{about}: {story:?}: {}", told(&e)));
            }
            assert_is(&mut backend, &model, &format!("{about}: {story:?}")).await;
        }
    }
    operations
}

async fn write(backend: &mut impl Backend, model: &mut Model, byte: u8) {
    backend.write(&disk("vda"), byte).await;
    backend.write(&disk("vdb"), byte + 100).await;
    model.now = byte;
}
