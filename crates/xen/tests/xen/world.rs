//! A domain whose Xen is in memory, and whose QEMU is a real one.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::Progress;
use xlsnap_qemu_img::Program;
use xlsnap_testkit::real::{Disk, Scratch, Vm, VmOptions};
use xlsnap_types::model::{StateFlags, XenRecord};
use xlsnap_xen::xl::{Effect, Error, Kind};
use xlsnap_xen::{Context, Domid, Patience, Places, Saved, Told, Toolstack, XlDomain};

use crate::store::{PV, Store};

pub(crate) const UUID: Uuid = Uuid::from_u128(0x0a77_3310_ff4b_4ec6_a93c_577d_088a_20d1);

/// What xl writes into a save file before the memory.
pub(crate) fn save_file(uuid: Uuid) -> Vec<u8> {
    let json = format!(r#"{{"c_info": {{"type": "pv", "name": "pv1", "uuid": "{uuid}"}}}}"#);
    let length = u32::try_from(json.len()).unwrap();
    let numbers = [0x0102_0304, 3, 0, length + 4, length].map(u32::to_ne_bytes).concat();
    [xlsnap_xen::save_file::MAGIC.as_slice(), &numbers, json.as_bytes(), &[7; 100_000]].concat()
}

/// What `xl` would do to the domain, without a Xen.
#[derive(Debug)]
pub(crate) struct Fake {
    store: Store,
    /// How often each domain is paused.
    pub(crate) pauses: Mutex<BTreeMap<u16, usize>>,
    /// How the next command fails, and whether it does what it should before.
    pub(crate) fails: Mutex<Option<(Kind, bool)>>,
    /// The domid of the next one.
    next: Mutex<u16>,
    /// Its QEMU, which ends with it.
    vm: Arc<Mutex<Option<Vm>>>,
}

impl Fake {
    fn fate(&self) -> (bool, Result<(), Error>) {
        match self.fails.lock().unwrap().take() {
            None => (true, Ok(())),
            Some((kind, done)) => (done, Err(Error::new(kind, Effect::Unknown, "as the test wants it"))),
        }
    }

    pub(crate) fn pause(&self, domid: u16) {
        *self.pauses.lock().unwrap().entry(domid).or_default() += 1;
    }

    pub(crate) fn paused(&self, domid: u16) -> usize {
        self.pauses.lock().unwrap().get(&domid).copied().unwrap_or(0)
    }

    fn make(&self) {
        let mut next = self.next.lock().unwrap();
        self.store.again(&Store::of(PV), 1, *next);
        self.pause(*next);
        *next += 1;
    }
}

#[async_trait]
impl Toolstack for Fake {
    async fn state(&self, domid: Domid) -> Result<Option<StateFlags>, Error> {
        if domid != Domid::DOM0 && !self.store.has(&format!("/local/domain/{domid}/vm")) {
            return Ok(None);
        }
        let paused = self.paused(domid.number()) > 0;
        Ok(Some(StateFlags { paused, blocked: !paused, ..StateFlags::default() }))
    }

    async fn configuration(&self, _domid: Domid) -> Result<String, Error> {
        Ok(include_str!("../recorded/pv1-list-l.json").to_owned())
    }

    async fn save(&self, domid: Domid, file: &Path, told: Told<'_>) -> Result<Saved, Error> {
        let since = Instant::now();
        let (done, result) = self.fate();
        std::fs::write(file, save_file(UUID)).unwrap();
        told(1, Some(2));
        if done {
            self.pause(domid.number());
        }
        result.map(|()| Saved { since })
    }

    async fn end_save(&self, _file: &Path) -> Result<bool, Error> {
        Ok(false)
    }

    async fn restore(&self, _file: &Path, _told: Told<'_>) -> Result<(), Error> {
        let (done, result) = self.fate();
        if done {
            self.make();
        }
        result
    }

    async fn create(&self, configuration: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(configuration).unwrap();
        assert!(text.contains(&format!("uuid = \"{UUID}\"")), "{text}");
        let (done, result) = self.fate();
        if done {
            self.make();
        }
        result
    }

    async fn unpause(&self, domid: Domid) -> Result<(), Error> {
        let (done, result) = self.fate();
        if done && let Some(pauses) = self.pauses.lock().unwrap().get_mut(&domid.number()) {
            *pauses = pauses.saturating_sub(1);
        }
        result
    }

    async fn destroy(&self, domid: Domid) -> Result<(), Error> {
        let (done, result) = self.fate();
        if done {
            if let Some(vm) = self.vm.lock().unwrap().take() {
                vm.quit();
            }
            self.store.end(domid.number());
        }
        result
    }
}

/// One domain.
pub(crate) struct World {
    pub(crate) scratch: Scratch,
    pub(crate) store: Store,
    pub(crate) toolstack: Arc<Fake>,
    pub(crate) vm: Arc<Mutex<Option<Vm>>>,
}

impl World {
    /// The recorded PV guest with the domid 1, with its two disks in a real QEMU.
    pub(crate) fn running() -> Self {
        let world = Self::off();
        let disks: Vec<Disk> =
            ["xvda", "xvdb"].map(|disk| Disk::qcow2(&format!("{disk}-qcow2"), &world.image(disk))).into();
        let vm = Vm::start(&world.scratch, &disks, &VmOptions::default());
        symlink(vm.qmp(), world.scratch.path("qmp-libxl-1")).unwrap();
        world.store.set("/local/domain/1/image/device-model-pid", vm.pid().to_string());
        *world.vm.lock().unwrap() = Some(vm);
        world
    }

    /// The same without a QEMU: its images are there, and its entries.
    pub(crate) fn off() -> Self {
        let scratch = Scratch::new();
        let store = Store::of(PV);
        for (disk, devid) in [("xvda", 51712), ("xvdb", 51728)] {
            let image = scratch.qcow2_with(&format!("{disk}.qcow2"), 4 << 20, 1);
            let params = format!("qcow2:{}", image.display());
            store.set(&format!("/local/domain/0/backend/qdisk/1/{devid}/params"), params);
        }
        let vm = Arc::default();
        let toolstack = Arc::new(Fake {
            store: store.clone(),
            pauses: Mutex::default(),
            fails: Mutex::default(),
            next: Mutex::new(2),
            vm: Arc::clone(&vm),
        });
        Self { scratch, store, toolstack, vm }
    }

    pub(crate) fn image(&self, disk: &str) -> PathBuf {
        self.scratch.path(&format!("{disk}.qcow2"))
    }

    /// The adapter, as each operation makes it.
    pub(crate) fn domain(&self, kept: Option<XenRecord>) -> XlDomain {
        let mut patience = Patience::default();
        patience.greeting = Duration::from_millis(300);
        patience.gone = Duration::from_secs(2);
        let context = Context {
            store: Arc::new(self.store.clone()),
            toolstack: self.toolstack.clone(),
            qemu_img: Arc::new(Program::default()),
            places: Places {
                run: self.scratch.dir().into(),
                userdata: self.scratch.dir().into(),
                records: self.scratch.path("records"),
            },
            patience,
        };
        XlDomain::new(context, UUID, "pv1", kept)
    }
}

/// Nobody watches.
#[derive(Debug)]
pub(crate) struct Unwatched;

impl Progress for Unwatched {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}
