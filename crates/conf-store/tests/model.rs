//! Any sequence of changes leaves what a map would hold.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Effect, FsStore, Kind, Record};
use xlsnap_testkit::conf_store::{meta, name, owner, record, records};
use xlsnap_types::libxl::{DiskFormat, DiskSnapshot, DomainSnapshot};
use xlsnap_types::model::DomainRecord;

const DOMAIN: Uuid = Uuid::from_u128(0xabc);

#[derive(Debug, Clone)]
enum Step {
    Store {
        record: Box<Record>,
        replace: bool,
    },
    Delete(String),
    Domain(Option<String>),
    Journal(Option<Vec<u8>>),
    /// Releases the lock and takes it again.
    Again,
}

/// Few names, so that they meet.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".into()), Just("a.libxl-json".into()), Just("雪 [b]".into()), Just("../c".into())]
}

fn text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(prop_oneof!["[a-c]{0,3}", any::<String>()])
}

prop_compose! {
    fn disk()(device in text(), file in text(), path in text(), qcow2 in any::<bool>()) -> DiskSnapshot {
        let format = if qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Unknown };
        DiskSnapshot { device, file, path, format, ..DiskSnapshot::default() }
    }
}

prop_compose! {
    fn any_record()(
        name in names(),
        description in text(),
        creation_time in prop_oneof![0u64..3, any::<u64>()],
        dying in any::<bool>(),
        disks in proptest::collection::vec(disk(), 0..3),
        mark in proptest::option::of(0u64..3),
    ) -> Record {
        let snapshot = DomainSnapshot {
            name: Some(name), description, creation_time, dying, disks, ..DomainSnapshot::default()
        };
        Record { snapshot, meta: mark.map(meta) }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_record(), any::<bool>())
            .prop_map(|(record, replace)| Step::Store { record: Box::new(record), replace }),
        2 => names().prop_map(Step::Delete),
        1 => proptest::option::of("[a-z]{1,3}").prop_map(Step::Domain),
        1 => proptest::option::of(any::<Vec<u8>>()).prop_map(Step::Journal),
        1 => Just(Step::Again),
    ]
}

#[derive(Debug, Default, PartialEq)]
struct Model {
    records: BTreeMap<String, Record>,
    domain: Option<DomainRecord>,
    journal: Option<Vec<u8>>,
}

/// Whether libxl could read it again: it cuts strings at a NUL.
fn readable(record: &Record) -> bool {
    let snapshot = &record.snapshot;
    let disks = snapshot.disks.iter().flat_map(|disk| [&disk.device, &disk.file]);
    !disks.chain([&snapshot.description]).flatten().any(|text| text.contains('\0'))
}

impl Model {
    fn store(&mut self, record: &Record, replace: bool) -> Result<(), Kind> {
        let key = record.snapshot.name.clone().unwrap();
        if key.contains('/') || !readable(record) {
            return Err(Kind::Malformed);
        }
        if self.records.contains_key(&key) && !replace {
            return Err(Kind::AlreadyExists);
        }
        let mut record = record.clone();
        record.snapshot.disks.iter_mut().for_each(|disk| disk.path = Some(String::new()));
        self.records.insert(key, record);
        Ok(())
    }
}

async fn run(root: &Path, steps: Vec<Step>) {
    let store = FsStore::new(root);
    let mut model = Model::default();
    let mut lock = store.lock(DOMAIN, &owner(), Duration::ZERO).await.unwrap();
    for step in steps {
        match &step {
            Step::Store { record, replace } => {
                let result = lock.store(record, *replace).await;
                assert!(result.as_ref().err().is_none_or(|error| error.effect() == Effect::None));
                assert_eq!(result.map_err(|error| error.kind()), model.store(record, *replace), "{step:?}");
            }
            Step::Delete(key) if key.contains('/') => {}
            Step::Delete(key) => {
                let expected = model.records.remove(key).map(drop).ok_or(Kind::NotFound);
                assert_eq!(lock.delete(&name(key)).await.map_err(|error| error.kind()), expected);
            }
            Step::Domain(name) => {
                let record = DomainRecord { name: name.clone(), ..DomainRecord::default() };
                lock.set_domain_record(&record).await.unwrap();
                model.domain = Some(record);
            }
            Step::Journal(entry) => {
                lock.set_journal(entry.as_deref()).await.unwrap();
                model.journal.clone_from(entry);
            }
            Step::Again => {
                drop(lock);
                lock = store.lock(DOMAIN, &owner(), Duration::ZERO).await.unwrap();
            }
        }
        let now = Model {
            records: records(&store, DOMAIN).await,
            domain: store.domain_record(DOMAIN).await.unwrap(),
            journal: store.journal(DOMAIN).await.unwrap(),
        };
        assert_eq!(now, model, "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_a_map(steps in proptest::collection::vec(step(), 1..25)) {
        let memory = Path::new("/dev/shm");
        let scratch = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(scratch.path(), steps));
    }
}

#[test]
fn the_greatest_numbers_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = FsStore::new(scratch.path());
        let mut lock = store.lock(DOMAIN, &owner(), Duration::ZERO).await.unwrap();
        lock.store(&record("a", u64::MAX), false).await.unwrap();
        assert_eq!(store.load(DOMAIN, &name("a")).await.unwrap(), record("a", u64::MAX));
    });
}
