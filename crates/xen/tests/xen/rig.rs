//! A domain whose Xen is in memory, and whose QEMU is a real one.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::{Clock, Command, DomainRef, Ports, Progress};
use xlsnap_qemu_img::Program;
use xlsnap_testkit::fake::MemStore;
use xlsnap_testkit::real::{Disk, Scratch, Vm, VmOptions};
use xlsnap_types::model::{StateFlags, XenRecord};
use xlsnap_xen::domains::GuestKind;
use xlsnap_xen::xl::{Effect, Error, Kind};
use xlsnap_xen::{Context, Domid, Patience, Places, Saved, Suspended, Told, Toolstack, XlDomain};

use crate::store::{PV, Store};
use crate::trace::{Trace, Traced};

pub(crate) const UUID: Uuid = Uuid::from_u128(0x0a77_3310_ff4b_4ec6_a93c_577d_088a_20d1);

/// What xl writes into a save file before the memory.
pub(crate) fn save_file(uuid: Uuid) -> Vec<u8> {
    let json = format!(r#"{{"c_info": {{"type": "pv", "name": "pv1", "uuid": "{uuid}"}}}}"#);
    let length = u32::try_from(json.len()).unwrap();
    let numbers = [0x0102_0304, 3, 0, length + 4, length].map(u32::to_ne_bytes).concat();
    [xlsnap_memory_file::XL_MAGIC.as_slice(), &numbers, json.as_bytes(), &[7; 100_000]].concat()
}

/// What `xl` would do to the domain, without a Xen.
#[derive(Debug)]
pub(crate) struct Fake {
    store: Store,
    scratch: Arc<Scratch>,
    /// How often each domain is paused.
    pub(crate) pauses: Mutex<BTreeMap<u16, usize>>,
    /// How the next command with an effect fails, and whether it does what it should before.
    pub(crate) fails: Mutex<Option<(Kind, bool)>>,
    /// How many of them go well before that.
    pub(crate) after: Mutex<usize>,
    /// After how many commands with an effect the next one does what it should, and never ends.
    pub(crate) hangs: Mutex<Option<usize>>,
    hung: tokio::sync::Notify,
    /// Whether memory is saved while a guest runs.
    pub(crate) lives: AtomicBool,
    /// Whether the guest is suspended, since its memory was saved so.
    pub(crate) suspended: Arc<AtomicBool>,
    /// The domid of the next one.
    next: Mutex<u16>,
    /// Its QEMU, which ends with it.
    vm: Arc<Mutex<Option<Vm>>>,
    /// Whether a domain that is made has a QEMU.
    serves: bool,
    trace: Trace,
}

impl Fake {
    fn fate(&self, words: &str, file: Option<&Path>) -> (bool, Result<(), Error>) {
        let files = file.map(|file| file.to_str().unwrap().to_owned());
        self.trace.push(Command::on_all(format!("xl {words}"), files));
        let mut after = self.after.lock().unwrap();
        if *after > 0 {
            *after -= 1;
            return (true, Ok(()));
        }
        match self.fails.lock().unwrap().take() {
            None => (true, Ok(())),
            Some((kind, done)) => (done, Err(Error::new(kind, Effect::Unknown, "as the test wants it"))),
        }
    }

    /// Ends the command that was done, if it is to end.
    async fn end(&self, result: Result<(), Error>) -> Result<(), Error> {
        let hangs = {
            let mut left = self.hangs.lock().unwrap();
            let hangs = *left == Some(0);
            *left = left.and_then(|left| left.checked_sub(1));
            hangs
        };
        if hangs {
            self.hung.notify_one();
            std::future::pending::<()>().await;
        }
        result
    }

    /// Returns when a command never ends.
    pub(crate) async fn hung(&self) {
        self.hung.notified().await;
    }

    pub(crate) fn add_pause(&self, domid: u16) {
        *self.pauses.lock().unwrap().entry(domid).or_default() += 1;
    }

    pub(crate) fn paused(&self, domid: u16) -> usize {
        self.pauses.lock().unwrap().get(&domid).copied().unwrap_or(0)
    }

    /// The domid of the domain that was made last.
    pub(crate) fn last(&self) -> u16 {
        *self.next.lock().unwrap() - 1
    }

    fn make(&self) {
        let domid = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next - 1
        };
        self.add_pause(domid);
        self.enter(domid);
    }

    /// The domain's entries under this domid, and its QEMU.
    fn enter(&self, domid: u16) {
        self.store.again(&Store::of(PV), 1, domid);
        for (disk, devid) in [("xvda", 51712), ("xvdb", 51728)] {
            let params = format!("qcow2:{}", image(&self.scratch, disk).display());
            self.store.set(&format!("/local/domain/0/backend/qdisk/{domid}/{devid}/params"), params);
        }
        if !self.serves {
            return;
        }
        let disks =
            ["xvda", "xvdb"].map(|disk| Disk::qcow2(&format!("{disk}-qcow2"), &image(&self.scratch, disk)));
        let arguments = self.trace.of_qemu(&self.scratch.path(&format!("trace-{domid}")));
        let vm = Vm::start(&self.scratch, &disks, &VmOptions { arguments, ..VmOptions::default() });
        symlink(vm.qmp(), self.scratch.path(&format!("qmp-libxl-{domid}"))).unwrap();
        self.store.set(&format!("/local/domain/{domid}/image/device-model-pid"), vm.pid().to_string());
        *self.vm.lock().unwrap() = Some(vm);
    }
}

fn image(scratch: &Scratch, disk: &str) -> PathBuf {
    scratch.path(&format!("{disk}.qcow2"))
}

#[async_trait]
impl Toolstack for Fake {
    async fn state(&self, domid: Domid) -> Result<Option<StateFlags>, Error> {
        if domid != Domid::DOM0 && !self.store.has(&format!("/local/domain/{domid}/vm")) {
            return Ok(None);
        }
        let paused = self.paused(domid.number()) > 0;
        let shutdown = self.suspended.load(Ordering::Relaxed);
        Ok(Some(StateFlags { paused, blocked: !paused, shutdown, ..StateFlags::default() }))
    }

    async fn configuration(&self, _domid: Domid) -> Result<String, Error> {
        Ok(include_str!("../recorded/pv1-list-l.json").to_owned())
    }

    async fn save(&self, domid: Domid, file: &Path, told: Told<'_>) -> Result<Saved, Error> {
        let since = Instant::now();
        let (done, result) = self.fate("save -p", Some(file));
        std::fs::write(file, save_file(UUID)).unwrap();
        told(1, Some(2));
        if done {
            self.add_pause(domid.number());
        }
        self.end(result).await.map(|()| Saved { since })
    }

    async fn saves_live(&self, _kind: GuestKind) -> Result<bool, Error> {
        Ok(self.lives.load(Ordering::Relaxed))
    }

    async fn save_live(
        &self,
        _domid: Domid,
        file: &Path,
        _told: Told<'_>,
    ) -> Result<(Instant, Box<dyn Suspended>), Error> {
        let since = Instant::now();
        let (done, result) = self.fate("migrate -s ''", Some(file));
        std::fs::write(file, save_file(UUID)).unwrap();
        self.suspended.store(done, Ordering::Relaxed);
        let suspended: Box<dyn Suspended> = Box::new(Asleep(Arc::clone(&self.suspended)));
        self.end(result).await.map(|()| (since, suspended))
    }

    async fn end_save(&self, _file: &Path) -> Result<bool, Error> {
        Ok(false)
    }

    async fn restore(&self, _file: &Path, _told: Told<'_>) -> Result<(), Error> {
        let (done, result) = self.fate("restore -p", None);
        if done {
            self.make();
        }
        self.end(result).await
    }

    async fn create(&self, configuration: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(configuration).unwrap();
        assert!(text.contains(&format!("uuid = \"{UUID}\"")), "{text}");
        let (done, result) = self.fate("create -p", None);
        if done {
            self.make();
        }
        self.end(result).await
    }

    async fn pause(&self, domid: Domid) -> Result<(), Error> {
        let (done, result) = self.fate("pause", None);
        if done {
            self.add_pause(domid.number());
        }
        self.end(result).await
    }

    async fn unpause(&self, domid: Domid) -> Result<(), Error> {
        let (done, result) = self.fate("unpause", None);
        if done && let Some(pauses) = self.pauses.lock().unwrap().get_mut(&domid.number()) {
            *pauses = pauses.saturating_sub(1);
        }
        self.end(result).await
    }

    async fn destroy(&self, domid: Domid) -> Result<(), Error> {
        let (done, result) = self.fate("destroy", None);
        if done {
            if let Some(vm) = self.vm.lock().unwrap().take() {
                vm.quit();
            }
            self.store.end(domid.number());
        }
        self.end(result).await
    }
}

/// A guest that goes on when this is dropped.
struct Asleep(Arc<AtomicBool>);

#[async_trait]
impl Suspended for Asleep {
    async fn resume(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// One domain.
pub(crate) struct Rig {
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) store: Store,
    pub(crate) toolstack: Arc<Fake>,
    pub(crate) vm: Arc<Mutex<Option<Vm>>>,
    pub(crate) trace: Trace,
    /// Records and journal.
    pub(crate) records: MemStore,
    clock: WallClock,
}

impl Rig {
    /// The recorded PV guest with the domid 1, with its two disks in a real QEMU.
    pub(crate) fn running() -> Self {
        Self::new(true)
    }

    /// The same without a QEMU: its images are there, and its entries.
    pub(crate) fn off() -> Self {
        Self::new(false)
    }

    fn new(serves: bool) -> Self {
        let scratch = Arc::new(Scratch::new());
        for disk in ["xvda", "xvdb"] {
            scratch.qcow2_with(&format!("{disk}.qcow2"), 4 << 20, 1);
        }
        let (store, vm, trace) = (Store::of(PV), Arc::default(), Trace::default());
        let toolstack = Arc::new(Fake {
            store: store.clone(),
            scratch: Arc::clone(&scratch),
            pauses: Mutex::default(),
            fails: Mutex::default(),
            after: Mutex::default(),
            hangs: Mutex::default(),
            hung: tokio::sync::Notify::new(),
            lives: AtomicBool::new(false),
            suspended: Arc::default(),
            next: Mutex::new(2),
            vm: Arc::clone(&vm),
            serves,
            trace: trace.clone(),
        });
        toolstack.enter(1);
        let clock = WallClock(Instant::now());
        Self { scratch, store, toolstack, vm, trace, records: MemStore::default(), clock }
    }

    pub(crate) fn image(&self, disk: &str) -> PathBuf {
        image(&self.scratch, disk)
    }

    /// The ports as the facade gives them.
    pub(crate) fn ports<'a>(&'a self, domain: &'a XlDomain) -> Ports<'a> {
        domain.offer(Ports::new(domain, domain, &self.records, &self.clock, &Unwatched))
    }

    pub(crate) fn reference(&self) -> DomainRef {
        DomainRef {
            uuid: UUID,
            name: "pv1".into(),
            pid: std::process::id(),
            lock_wait: Duration::from_secs(1),
        }
    }

    /// The adapter, as each operation makes it.
    pub(crate) fn domain(&self, kept: Option<XenRecord>) -> XlDomain {
        let mut patience = Patience::default();
        patience.greeting = Duration::from_millis(300);
        patience.gone = Duration::from_secs(2);
        let context = Context {
            store: Arc::new(self.store.clone()),
            toolstack: self.toolstack.clone(),
            qemu_img: Arc::new(Traced { program: Program::default(), trace: self.trace.clone() }),
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

struct WallClock(Instant);

impl Clock for WallClock {
    fn epoch_seconds(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Progress that is not shown.
#[derive(Debug)]
pub(crate) struct Unwatched;

impl Progress for Unwatched {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}
