//! The guest's memory, the domain's process, and the agent, with QEMU's rules.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Abilities, Agent, Effect, GuestState, InsideMemory, Memory, MemoryFiles, MemoryHeader, MemorySave,
    MemorySurvey, PortError, PortErrorKind, Power, Progress, SavedMemory, SnapshotAction,
};
use xlsnap_types::model::{MemoryMeta, MemoryWay, Meta, SnapshotName, StateFlags};

use super::FakeWorld;
use super::faults::Verdict;
use super::world::{State, paused, refuse, running};

/// What a guest's programs hold of each disk, as they wrote or read it last.
pub(super) type GuestMemory = BTreeMap<String, u64>;

/// A memory file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// What is in it; `None` while it is written.
    pub memory: Option<BTreeMap<String, u64>>,
    /// What somebody spoilt.
    pub spoilt: bool,
}

/// A save that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saving {
    save: MemorySave,
    memory: GuestMemory,
}

impl State {
    /// What the disks of the guest read.
    fn contents(&self) -> GuestMemory {
        self.disks.iter().map(|disk| (disk.name.to_string(), self.content(&disk.top))).collect()
    }

    /// The process ends, by itself or by force.
    pub(super) fn die(&mut self) {
        self.guest = GuestState::Off;
        self.open_described();
        self.memory.clear();
        self.saving = None;
        self.released = false;
        self.frozen = false;
    }

    /// The guest boots: it knows of its disks what it reads.
    pub(super) fn boot(&mut self) {
        self.memory = self.contents();
        self.released = false;
    }

    /// Whether the guest's programs would notice that their disks are not what they remember.
    pub(super) fn agrees(&self) -> bool {
        !matches!(self.guest, GuestState::On(_)) || self.released || self.memory == self.contents()
    }

    fn part(save: &MemorySave) -> String {
        format!("{}.{}.part", save.file.as_deref().unwrap_or_default(), save.token)
    }

    fn is_on(&self) -> Result<(), PortError> {
        match self.guest {
            GuestState::On(_) if !self.released => Ok(()),
            _ => refuse(PortErrorKind::Refused, "there is no guest"),
        }
    }

    fn begin(&mut self, save: &MemorySave) -> Result<(), PortError> {
        self.is_on()?;
        self.memory_files.insert(Self::part(save), MemoryFile { memory: None, spoilt: false });
        self.guest = paused();
        self.saving = Some(Saving { save: save.clone(), memory: self.memory.clone() });
        Ok(())
    }

    fn resume(&mut self, save: &MemorySave) -> Result<(), PortError> {
        if self.saving.as_ref().is_none_or(|saving| saving.save != *save) {
            return refuse(PortErrorKind::Refused, "nothing is being saved");
        }
        if save.was_running {
            self.guest = running();
        }
        Ok(())
    }

    fn finish(&mut self, save: &MemorySave) -> Result<SavedMemory, PortError> {
        let Some(saving) = self.saving.take() else {
            return refuse(PortErrorKind::Refused, "nothing is being saved");
        };
        let file = save.file.clone().unwrap_or_default();
        if self.memory_files.contains_key(&file) {
            return refuse(PortErrorKind::AlreadyExists, format!("'{file}': File exists"));
        }
        self.memory_files.remove(&Self::part(save));
        let saved = saved(&saving.memory);
        self.memory_files.insert(file, MemoryFile { memory: Some(saving.memory), spoilt: false });
        Ok(saved)
    }

    fn abandon(&mut self, save: &MemorySave) {
        self.saving = None;
        if let Some(file) = &save.file
            && self.memory_files.remove(&Self::part(save)).is_none()
        {
            self.memory_files.remove(file);
        }
        if save.was_running && matches!(self.guest, GuestState::On(_)) {
            self.guest = running();
        }
    }

    fn load(&mut self, inside: &InsideMemory, run: bool) -> Result<(), PortError> {
        let mut after = self.clone();
        let mut memory = None;
        for name in &inside.disks {
            let top = after.disk(name.as_str()).top.clone();
            let image = after.files.get_mut(&top).expect("a disk's image is there");
            let Some(kept) = image.snapshots.iter().find(|kept| kept.snapshot.name == inside.tag).cloned()
            else {
                return refuse(
                    PortErrorKind::NotFound,
                    format!("Device '{name}' does not have the requested snapshot"),
                );
            };
            image.content = kept.content;
            if *name == inside.state {
                memory = kept.memory;
            }
        }
        let Some(memory) = memory else {
            return refuse(PortErrorKind::Refused, "This is a disk-only snapshot");
        };
        after.memory = memory;
        after.released = false;
        after.guest = if run { running() } else { paused() };
        *self = after;
        Ok(())
    }
}

fn saved(memory: &GuestMemory) -> SavedMemory {
    let sum = memory.values().fold(17, |sum: u64, content| sum.wrapping_mul(31).wrapping_add(*content));
    SavedMemory { bytes: 4096, checksum: Some(format!("fake:{sum:x}")) }
}

impl FakeWorld {
    /// Runs a call on the machine under the faults; one that kills the process does so first.
    fn machine<T>(
        &self,
        method: &'static str,
        effect: impl FnOnce(&mut State) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        match self.faults().meet(method) {
            Verdict::Torn(_) => {
                self.state().die();
                Err(PortError::new(PortErrorKind::Unreachable, Effect::Unknown, "the process ended"))
            }
            verdict => self.faults().by(verdict, method, || effect(&mut self.state())),
        }
    }
}

#[async_trait]
impl Memory for FakeWorld {
    async fn survey(&self, file: Option<&str>) -> Result<MemorySurvey, PortError> {
        self.machine("memory.survey", |state| {
            Ok(MemorySurvey {
                ways: vec![
                    MemoryWay::Background,
                    MemoryWay::Switchover,
                    MemoryWay::Stopped,
                    MemoryWay::Internal,
                ],
                lacking: vec![(MemoryWay::Toolstack, "there is no toolstack".to_owned())],
                needed: 4096,
                free: Some(1 << 30),
                no_place: None,
                taken: file.is_some_and(|file| state.memory_files.contains_key(file)),
            })
        })
    }

    async fn begin(&self, save: &MemorySave, progress: &dyn Progress) -> Result<(), PortError> {
        progress.bytes(0, Some(4096));
        self.machine("memory.begin", |state| state.begin(save))
    }

    async fn resume(&self, save: &MemorySave, _progress: &dyn Progress) -> Result<Duration, PortError> {
        self.machine("memory.resume", |state| state.resume(save))?;
        Ok(Duration::from_millis(50))
    }

    async fn finish(&self, save: &MemorySave, progress: &dyn Progress) -> Result<SavedMemory, PortError> {
        progress.bytes(4096, Some(4096));
        self.machine("memory.finish", |state| state.finish(save))
    }

    async fn take_inside(
        &self,
        save: &MemorySave,
        actions: &[SnapshotAction],
        _progress: &dyn Progress,
    ) -> Result<Duration, PortError> {
        let now = self.seconds();
        self.machine("memory.take_inside", |state| {
            state.is_on()?;
            assert_eq!(save.way, MemoryWay::Internal, "only memory that goes inside is taken inside");
            let memory = state.memory.clone();
            state.transaction(actions, now)?;
            let first = actions.first().expect("a plan has a disk").disk().to_string();
            let top = state.disk(&first).top.clone();
            let image = state.files.get_mut(&top).expect("a disk's image is there");
            let kept = image.snapshots.last_mut().expect("it was taken just now");
            kept.snapshot.vm_state_size = 4096;
            kept.memory = Some(memory);
            Ok(Duration::from_millis(200))
        })
    }

    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError> {
        self.machine("memory.abandon", |state| {
            state.abandon(save);
            Ok(())
        })
    }
}

#[async_trait]
impl MemoryFiles for FakeWorld {
    fn place(&self, name: &SnapshotName) -> String {
        format!("/saves/{name}.save")
    }

    async fn size(&self, file: &str) -> Result<Option<u64>, PortError> {
        self.machine("memory_files.size", |state| Ok(state.memory_files.get(file).map(|_| 4096)))
    }

    async fn verify(&self, memory: &MemoryMeta, _progress: &dyn Progress) -> Result<MemoryHeader, PortError> {
        self.machine("memory_files.verify", |state| {
            let name = memory.file.clone().unwrap_or_default();
            let Some(file) = state.memory_files.get(&name) else {
                return refuse(PortErrorKind::NotFound, format!("the memory file {name} is not there"));
            };
            let expected = SavedMemory { bytes: memory.bytes, checksum: memory.checksum.clone() };
            if file.spoilt || file.memory.as_ref().map(saved) != Some(expected) {
                return refuse(
                    PortErrorKind::Corrupt,
                    format!("the memory file {name} is not what was recorded"),
                );
            }
            Ok(MemoryHeader::default())
        })
    }

    async fn remove(&self, file: &str) -> Result<(), PortError> {
        self.machine("memory_files.remove", |state| {
            state.memory_files.remove(file);
            Ok(())
        })
    }
}

#[async_trait]
impl Power for FakeWorld {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        self.machine("power.abilities", |state| Ok(state.abilities.clone()))
    }

    async fn destroy(&self) -> Result<(), PortError> {
        self.machine("power.destroy", |state| {
            if state.guest != GuestState::Off {
                state.die();
            }
            Ok(())
        })
    }

    async fn start(&self, run: bool) -> Result<(), PortError> {
        self.machine("power.start", |state| {
            if state.guest != GuestState::Off {
                return refuse(PortErrorKind::AlreadyExists, "it runs already");
            }
            state.open_described();
            state.guest = if run { running() } else { paused() };
            state.boot();
            Ok(())
        })
    }

    async fn restore(
        &self,
        memory: &MemoryMeta,
        run: bool,
        _progress: &dyn Progress,
    ) -> Result<(), PortError> {
        self.machine("power.restore", |state| {
            if state.guest != GuestState::Off {
                return refuse(PortErrorKind::AlreadyExists, "it runs already");
            }
            let file = memory.file.as_deref().and_then(|file| state.memory_files.get(file));
            let Some(memory) = file.and_then(|file| file.memory.clone()) else {
                return refuse(PortErrorKind::NotFound, "the memory file is not there");
            };
            state.open_described();
            state.memory = memory;
            state.guest = if run { running() } else { paused() };
            Ok(())
        })
    }

    async fn load(
        &self,
        inside: &InsideMemory,
        run: bool,
        _progress: &dyn Progress,
    ) -> Result<(), PortError> {
        self.machine("power.load", |state| state.load(inside, run))
    }

    async fn release(&self) -> Result<(), PortError> {
        self.machine("power.release", |state| {
            if !matches!(state.guest, GuestState::On(_)) {
                return refuse(PortErrorKind::Refused, "there is no guest");
            }
            state.guest = paused();
            state.released = true;
            Ok(())
        })
    }

    async fn take_back(&self, reset: bool, run: bool) -> Result<(), PortError> {
        self.machine("power.take_back", |state| {
            if !matches!(state.guest, GuestState::On(_)) {
                return refuse(PortErrorKind::Refused, "there is no process");
            }
            state.released = false;
            if reset {
                state.boot();
            }
            state.guest = if run { running() } else { paused() };
            Ok(())
        })
    }
}

#[async_trait]
impl Agent for FakeWorld {
    async fn freeze(&self, _bound: Duration) -> Result<u32, PortError> {
        self.machine("agent.freeze", |state| {
            if state.guest != running() {
                return refuse(PortErrorKind::Unreachable, "the agent does not answer");
            }
            state.frozen = true;
            Ok(2)
        })
    }

    async fn thaw(&self, _bound: Duration) -> Result<u32, PortError> {
        self.machine("agent.thaw", |state| Ok(u32::from(std::mem::take(&mut state.frozen)) * 2))
    }
}

impl FakeWorld {
    /// Gives the domain a process that the orchestrator can do anything with, and an agent.
    #[must_use]
    pub fn with_machine(mut self) -> Self {
        self.machine = true;
        self
    }

    /// Whether it has them.
    pub fn has_machine(&self) -> bool {
        self.machine
    }

    /// Puts a memory file there behind everybody's back.
    pub fn add_memory_file(&self, file: &str) {
        self.state().memory_files.insert(file.to_owned(), MemoryFile { memory: None, spoilt: false });
    }

    /// Stops the guest, as a user would.
    pub fn pause(&self) {
        self.state().guest = paused();
    }

    /// Changes what can be done with the process.
    pub fn abilities(&self, change: impl FnOnce(&mut Abilities)) {
        change(&mut self.state().abilities);
    }

    /// The memory files, by name.
    pub fn memory_files(&self) -> BTreeMap<String, MemoryFile> {
        self.state().memory_files.clone()
    }

    /// Changes a byte of a memory file behind everybody's back.
    pub fn spoil(&self, file: &str) {
        self.state().memory_files.get_mut(file).expect("the file is there").spoilt = true;
    }

    /// Takes a memory file away behind everybody's back.
    pub fn lose_memory_file(&self, file: &str) {
        self.state().memory_files.remove(file);
    }

    /// Changes the meta of a record behind everybody's back.
    pub fn change_record(&self, name: &str, change: impl FnOnce(&mut Meta)) {
        let name = SnapshotName::new(name).expect("a test gives valid names");
        let mut record = self.store().records(Self::UUID).remove(&name).expect("the record is there");
        change(record.meta.as_mut().expect("all records here are ours"));
        self.store().plant(Self::UUID, record);
    }

    /// Whether the guest's programs find their disks as they remember them.
    pub fn agrees(&self) -> bool {
        self.state().agrees()
    }

    /// Whether the guest's file systems are frozen, or its process has let go of its disks.
    pub fn is_held(&self) -> bool {
        let state = self.state();
        state.frozen || state.released
    }

    /// Whether the guest runs.
    pub fn runs(&self) -> bool {
        matches!(self.state().guest, GuestState::On(StateFlags { running: true, .. }))
    }
}
