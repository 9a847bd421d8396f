//! The backend: files, disks, guest, store, clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use xlsnap_orchestrator::{
    Abilities, Can, Clock, DomainRef, Effect, Guest, GuestState, Port, PortError, PortErrorKind, Ports,
    Progress,
};
use xlsnap_types::model::{DiskName, ImageFormat, StateFlags};

use super::machine::{GuestMemory, Saving};
use super::{Faults, Image, MemStore, MemoryFile};

/// What a device has in place of an image that its process was made to close.
pub(super) const STAND_IN: &str = "null-co://";

/// A disk of the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeDisk {
    /// Its name.
    pub name: DiskName,
    /// The image that the domain's description names.
    pub described: String,
    /// The image that takes its writes now.
    pub top: String,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Whether it is a CD-ROM.
    pub removable: bool,
}

/// What is on the disks, and what has them open.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) files: BTreeMap<String, Image>,
    pub(super) disks: Vec<FakeDisk>,
    pub(super) guest: GuestState,
    /// What the guest's programs hold of each disk.
    pub(super) memory: GuestMemory,
    pub(super) memory_files: BTreeMap<String, MemoryFile>,
    pub(super) saving: Option<Saving>,
    /// The process has let go of the disks.
    pub(super) released: bool,
    /// The guest's file systems are frozen.
    pub(super) frozen: bool,
    pub(super) abilities: Abilities,
    /// What starts the domain goes on naming the images that it names now.
    pub(super) named_for_good: bool,
    /// The process that has the disks moves no data between their layers.
    pub(super) moves_nothing: bool,
    /// The bytes that are free.
    pub(super) room: u64,
}

/// A refusal without effect.
pub(super) fn refuse<T>(kind: PortErrorKind, message: impl Into<String>) -> Result<T, PortError> {
    Err(PortError::new(kind, Effect::None, message))
}

/// A guest that runs.
pub(super) fn running() -> GuestState {
    GuestState::On(StateFlags { running: true, ..StateFlags::default() })
}

/// A guest that stands still.
pub(super) fn paused() -> GuestState {
    GuestState::On(StateFlags { paused: true, ..StateFlags::default() })
}

/// A domain in memory, with every port that the orchestrator needs. Clones share everything.
#[derive(Clone)]
pub struct FakeBackend {
    pub(super) state: Arc<Mutex<State>>,
    faults: Faults,
    store: MemStore,
    time: Arc<AtomicU64>,
    pub(super) machine: bool,
    names: bool,
}

impl FakeBackend {
    /// The domain's uuid.
    pub const UUID: Uuid = Uuid::from_u128(0x5eed);

    /// A domain that is off, with these disks, each on a new image `/images/<name>.<format>`.
    pub fn new(disks: &[(&str, ImageFormat)]) -> Self {
        let faults = Faults::default();
        let backend = Self {
            state: Arc::new(Mutex::new(State {
                files: BTreeMap::new(),
                disks: Vec::new(),
                guest: GuestState::Off,
                memory: BTreeMap::new(),
                memory_files: BTreeMap::new(),
                saving: None,
                released: false,
                frozen: false,
                abilities: Abilities::default(),
                named_for_good: false,
                moves_nothing: false,
                room: u64::MAX,
            })),
            machine: false,
            names: false,
            store: MemStore::with_faults(faults.clone()),
            faults,
            time: Arc::new(AtomicU64::new(1_700_000_000_000)),
        };
        for (name, format) in disks {
            backend.add_disk(name, format.clone(), false, false);
        }
        backend
    }

    /// A domain that is off with qcow2 disks of these names.
    pub fn qcow2(disks: &[&str]) -> Self {
        let disks: Vec<_> = disks.iter().map(|name| (*name, ImageFormat::Qcow2)).collect();
        Self::new(&disks)
    }

    /// The same, whose files can be renamed.
    pub fn with_names(mut self) -> Self {
        self.names = true;
        self
    }

    /// The same, of a domain that others start.
    pub fn started_by_others(self) -> Self {
        self.state().abilities.restart = Can::no("others start it");
        self
    }

    /// The same, of a domain that a toolstack of its own starts, which always names these images; its process moves no data between
    /// layers, and its guest is not reset in place: as Xen's.
    pub fn started_by_toolstack(self) -> Self {
        let mut state = self.state();
        state.named_for_good = true;
        state.moves_nothing = true;
        state.abilities.release = Can::no("its process keeps its disks");
        state.abilities.reset = Can::no("it is started again instead");
        drop(state);
        self
    }

    /// The same, whose process moves data between layers.
    pub fn moving_data(self) -> Self {
        self.state().moves_nothing = false;
        self
    }

    /// A backend of its own that is as this one is now, without its faults.
    pub fn fork(&self) -> Self {
        let faults = Faults::default();
        Self {
            state: Arc::new(Mutex::new(self.state().clone())),
            machine: self.machine,
            names: self.names,
            store: self.store.fork(faults.clone()),
            faults,
            time: Arc::new(AtomicU64::new(self.time.load(Ordering::Relaxed))),
        }
    }

    /// Adds a disk with an image of its own.
    pub fn add_disk(&self, name: &str, format: ImageFormat, read_only: bool, removable: bool) {
        let extension = if format == ImageFormat::Raw { "raw" } else { "qcow2" };
        let file = format!("/images/{name}.{extension}");
        let mut state = self.state();
        state.files.insert(file.clone(), Image::new(format));
        state.disks.push(FakeDisk {
            name: DiskName::new(name).expect("a test gives valid names"),
            described: file.clone(),
            top: file,
            read_only,
            removable,
        });
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// All ports.
    pub fn ports(&self) -> Ports<'_> {
        let ports = Ports::new(self, self, &self.store, self, self);
        let mut ports =
            Ports { overlays: Port::Has(self), layers: Port::Has(self), commands: Port::Has(self), ..ports };
        if self.names {
            ports.names = Port::Has(self);
        }
        if !self.machine {
            return ports;
        }
        Ports {
            pause: Port::Has(self),
            memory: Port::Has(self),
            inside: Port::Has(self),
            memory_files: Port::Has(self),
            power: Port::Has(self),
            release: Port::Has(self),
            agent: Port::Has(self),
            ..ports
        }
    }

    /// The domain, asked for without waiting for its lock.
    pub fn domain(&self) -> DomainRef {
        DomainRef { uuid: Self::UUID, name: "fake".to_owned(), pid: 1, lock_wait: Duration::ZERO }
    }

    /// The faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The store.
    pub fn store(&self) -> &MemStore {
        &self.store
    }

    /// Starts the process that asks anew after a crash, and forgets calls and faults.
    pub fn restart(&self) {
        self.faults.clear();
        self.faults.restart();
    }

    /// Starts the domain with the images that its description names.
    pub fn start(&self) {
        self.power(running());
    }

    /// Makes the domain's state `guest`; one that was off opens the images that its description names.
    pub fn power(&self, guest: GuestState) {
        let mut state = self.state();
        let running = |guest| matches!(guest, GuestState::On(_) | GuestState::Serving);
        if !(running(state.guest) && running(guest)) {
            state.die();
        }
        state.guest = guest;
        state.boot();
    }

    /// Stops the domain.
    pub fn stop(&self) {
        self.power(GuestState::Off);
    }

    /// Writes `content` all over a disk, as its guest would, or as a program does while it is off.
    pub fn write(&self, disk: &str, content: u64) {
        let mut state = self.state();
        let top = state.disk(disk).top.clone();
        state.files.get_mut(&top).expect("a disk's image is there").content = Some(content);
        if matches!(state.guest, GuestState::On(_)) {
            state.memory.insert(disk.to_owned(), content);
        }
    }

    /// Leaves so many bytes free.
    pub fn set_room(&self, bytes: u64) {
        self.state().room = bytes;
    }

    /// What is read from an image, whatever stands on it.
    pub fn read_image(&self, file: &str) -> u64 {
        self.state().content(file)
    }

    /// What is read from the only snapshot of this name inside an image.
    ///
    /// # Panics
    /// When there is none, or more than one.
    pub fn read_inside(&self, file: &str, tag: &str) -> u64 {
        let state = self.state();
        let image = state.files.get(file).expect("the image is there");
        let mut found = image.snapshots.iter().filter(|kept| kept.snapshot.name == tag);
        let (Some(kept), None) = (found.next(), found.next()) else {
            panic!("{file} does not hold one snapshot {tag}");
        };
        let below = || state.content(image.base.as_deref().expect("a snapshot without content has a base"));
        kept.content.unwrap_or_else(below)
    }

    /// What the guest reads from a disk.
    pub fn read(&self, disk: &str) -> u64 {
        let state = self.state();
        state.content(&state.disk(disk).top)
    }

    /// The names of all disks, in order.
    pub fn disk_names(&self) -> Vec<DiskName> {
        self.state().disks.iter().map(|disk| disk.name.clone()).collect()
    }

    /// The disk.
    pub fn disk(&self, disk: &str) -> FakeDisk {
        self.state().disk(disk).clone()
    }

    /// The guest's state, without a port's call.
    pub fn guest_state(&self) -> GuestState {
        self.state().guest
    }

    /// Every file there is.
    pub fn files(&self) -> BTreeSet<String> {
        self.state().files.keys().cloned().collect()
    }

    /// Puts a file there, as another program would.
    pub fn add_file(&self, file: &str, image: Image) {
        self.state().files.insert(file.to_owned(), image);
    }

    /// Takes a file away, as another program would.
    pub fn remove_file(&self, file: &str) {
        self.state().files.remove(file);
    }

    /// Gives a file another name, as a user would: what names it does not follow.
    pub fn move_file(&self, from: &str, to: &str) {
        let mut state = self.state();
        let image = state.files.remove(from).expect("the file is there");
        state.files.insert(to.to_owned(), image);
    }

    /// Changes a file, as another program would.
    pub fn change<T>(&self, file: &str, change: impl FnOnce(&mut Image) -> T) -> T {
        change(self.state().files.get_mut(file).expect("the file is there"))
    }

    /// Changes the image that a disk writes to, as another program would.
    pub fn change_disk<T>(&self, disk: &str, change: impl FnOnce(&mut Image) -> T) -> T {
        let top = self.disk(disk).top;
        self.change(&top, change)
    }

    /// The names of the snapshots inside the image that a disk writes to.
    pub fn tags(&self, disk: &str) -> Vec<String> {
        self.change_disk(disk, |image| {
            image.snapshots.iter().map(|kept| kept.snapshot.name.clone()).collect()
        })
    }

    pub(super) fn seconds(&self) -> u64 {
        self.time.fetch_add(7, Ordering::Relaxed) / 1000
    }
}

impl State {
    pub(super) fn disk(&self, name: &str) -> &FakeDisk {
        self.disks.iter().find(|disk| disk.name.as_str() == name).expect("the disk is there")
    }

    pub(super) fn open_described(&mut self) {
        for disk in &mut self.disks {
            disk.top.clone_from(&disk.described);
        }
    }

    pub(super) fn content(&self, file: &str) -> u64 {
        if file == STAND_IN {
            return u64::MAX;
        }
        let mut image = self.files.get(file).expect("a disk's image is there");
        while image.content.is_none() {
            let base = image.base.as_deref().expect("an image without content has a base");
            image = self.files.get(base).expect("a base is there");
        }
        image.content.expect("the loop ends at content")
    }
}

#[async_trait]
impl Guest for FakeBackend {
    async fn state(&self) -> Result<GuestState, PortError> {
        self.faults.port("guest.state", || Ok(self.guest_state()))
    }
}

impl Clock for FakeBackend {
    fn epoch_seconds(&self) -> u64 {
        self.seconds()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.time.fetch_add(7, Ordering::Relaxed))
    }
}

impl Progress for FakeBackend {
    fn step(&self, number: usize, total: usize, what: &str) {
        assert!((1..=total).contains(&number), "step {number} of {total}: {what}");
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        assert!(total.is_none_or(|total| done <= total), "{done} of {total:?} bytes");
    }
}
