//! The guest's memory, the domain's process, and the agent, with QEMU's rules.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Abilities, Agent, Can, Effect, FoundMemory, GuestState, InsideMemory, Memory, MemoryFiles, MemoryHeader,
    MemoryInside, MemorySave, MemorySign, MemorySurvey, Pause, PortError, PortErrorKind, Power, Progress,
    Release, Run, SaveTo, SavedMemory, SnapshotAction, StoppedGuest, UnfinishedMemory,
};
use xlsnap_types::model::{Compression, MemoryMeta, MemoryWay, Meta, SavedIn, SnapshotName, StateFlags};

use super::FakeBackend;
use super::backend::{State, paused, refuse, running};
use super::faults::Verdict;

/// What a guest's programs hold of each disk, as they wrote or read it last.
pub(super) type GuestMemory = BTreeMap<String, u64>;

/// A memory file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// What is in it; `None` while it is written.
    pub memory: Option<BTreeMap<String, u64>>,
    /// Whether a byte of it was changed.
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
        format!("{}.{}.part", save.file().unwrap_or_default(), save.token)
    }

    fn is_on(&self) -> Result<(), PortError> {
        match self.guest {
            GuestState::On(_) if !self.released => Ok(()),
            _ => refuse(PortErrorKind::Refused, "there is no guest"),
        }
    }

    fn must_be_on(&self) -> Result<(), PortError> {
        match self.guest {
            GuestState::On(_) => Ok(()),
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
        if save.was.runs() {
            self.guest = running();
        }
        Ok(())
    }

    fn finish(&mut self, save: &MemorySave) -> Result<SavedMemory, PortError> {
        let Some(saving) = self.saving.take() else {
            return refuse(PortErrorKind::Refused, "nothing is being saved");
        };
        let file = save.file().unwrap_or_default().to_owned();
        if self.memory_files.contains_key(&file) {
            return refuse(PortErrorKind::AlreadyExists, format!("'{file}': File exists"));
        }
        self.memory_files.remove(&Self::part(save));
        let saved = saved(&saving.memory);
        self.memory_files.insert(file, MemoryFile { memory: Some(saving.memory), spoilt: false });
        Ok(saved)
    }

    /// Refuses a memory file that is not what was recorded.
    fn recorded_file(&self, memory: &MemoryMeta) -> Result<(), PortError> {
        let SavedIn::File { file: name, checksum, .. } = &memory.place else {
            return refuse(PortErrorKind::Refused, "the memory is in no file");
        };
        let Some(file) = self.memory_files.get(name) else {
            return refuse(PortErrorKind::NotFound, format!("the memory file {name} is not there"));
        };
        let expected = SavedMemory { bytes: memory.bytes, checksum: checksum.clone() };
        if file.spoilt || file.memory.as_ref().map(saved) != Some(expected) {
            return refuse(
                PortErrorKind::Corrupt,
                format!("the memory file {name} is not what was recorded"),
            );
        }
        Ok(())
    }

    fn abandon(&mut self, save: &MemorySave) {
        self.saving = None;
        if let Some(file) = save.file()
            && self.memory_files.remove(&Self::part(save)).is_none()
        {
            self.memory_files.remove(file);
        }
        if save.was.runs() && matches!(self.guest, GuestState::On(_)) {
            self.guest = running();
        }
    }

    fn load(&mut self, inside: &MemoryInside, run: Run) -> Result<(), PortError> {
        self.is_on()?;
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
        after.guest = of_run(run);
        *self = after;
        Ok(())
    }
}

fn saved(memory: &GuestMemory) -> SavedMemory {
    let sum = memory.values().fold(17, |sum: u64, content| sum.wrapping_mul(31).wrapping_add(*content));
    SavedMemory { bytes: 4096, checksum: Some(format!("fake:{sum:x}")) }
}

impl FakeBackend {
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

fn of_run(run: Run) -> GuestState {
    if run.runs() { running() } else { paused() }
}

#[async_trait]
impl Memory for FakeBackend {
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
                mendable: None,
                needed: 4096,
                free: Some(1 << 30),
                place: Can::Yes,
                taken: file.is_some_and(|file| state.memory_files.contains_key(file)),
            })
        })
    }

    async fn begin<'a>(
        &'a self,
        save: &MemorySave,
        progress: &'a dyn Progress,
    ) -> Result<Box<dyn StoppedGuest<'a> + 'a>, PortError> {
        progress.bytes(0, Some(4096));
        self.machine("memory.begin", |state| state.begin(save))?;
        Ok(Box::new(Stopped { backend: self, save: save.clone(), progress }))
    }

    async fn abandon(&self, save: &MemorySave) -> Result<(), PortError> {
        self.machine("memory.abandon", |state| {
            state.abandon(save);
            Ok(())
        })
    }
}

/// A guest whose memory is being saved.
struct Stopped<'a> {
    backend: &'a FakeBackend,
    save: MemorySave,
    progress: &'a dyn Progress,
}

#[async_trait]
impl<'a> StoppedGuest<'a> for Stopped<'a> {
    async fn run_on(self: Box<Self>) -> Result<(Duration, Box<dyn UnfinishedMemory + 'a>), PortError> {
        self.backend.machine("memory.run_on", |state| state.resume(&self.save))?;
        Ok((Duration::from_millis(50), self))
    }
}

#[async_trait]
impl UnfinishedMemory for Stopped<'_> {
    async fn finish(self: Box<Self>) -> Result<SavedMemory, PortError> {
        self.progress.bytes(4096, Some(4096));
        self.backend.machine("memory.finish", |state| state.finish(&self.save))
    }
}

#[async_trait]
impl InsideMemory for FakeBackend {
    async fn take_inside(
        &self,
        save: &MemorySave,
        actions: &[SnapshotAction],
        _progress: &dyn Progress,
    ) -> Result<Duration, PortError> {
        let now = self.seconds();
        self.machine("inside.take_inside", |state| {
            state.is_on()?;
            assert_eq!(save.to, SaveTo::Inside, "only memory that goes inside is taken inside");
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

    async fn abandon_inside(&self, save: &MemorySave) -> Result<(), PortError> {
        self.machine("inside.abandon_inside", |state| {
            state.abandon(save);
            Ok(())
        })
    }

    async fn load(&self, inside: &MemoryInside, run: Run, _progress: &dyn Progress) -> Result<(), PortError> {
        self.machine("inside.load", |state| state.load(inside, run))
    }
}

#[async_trait]
impl MemoryFiles for FakeBackend {
    fn place(&self, name: &SnapshotName) -> String {
        format!("/saves/{name}.save")
    }

    async fn list(&self) -> Result<Vec<String>, PortError> {
        self.machine("memory_files.list", |state| Ok(state.memory_files.keys().cloned().collect()))
    }

    async fn size(&self, file: &str) -> Result<Option<u64>, PortError> {
        self.machine("memory_files.size", |state| Ok(state.memory_files.get(file).map(|_| 4096)))
    }

    async fn verify(&self, memory: &MemoryMeta, _progress: &dyn Progress) -> Result<MemoryHeader, PortError> {
        self.machine("memory_files.verify", |state| {
            state.recorded_file(memory).map(|()| MemoryHeader::default())
        })
    }

    async fn recognize(
        &self,
        memory: &MemoryMeta,
        _token: Option<&str>,
        _progress: &dyn Progress,
    ) -> Result<MemorySign, PortError> {
        self.machine("memory_files.recognize", |state| state.recorded_file(memory).map(|()| MemorySign::Mark))
    }

    async fn examine(&self, file: &str, _progress: &dyn Progress) -> Result<FoundMemory, PortError> {
        let written = self.seconds();
        self.machine("memory_files.examine", |state| {
            let Some(found) = state.memory_files.get(file) else {
                return refuse(PortErrorKind::NotFound, format!("the memory file {file} is not there"));
            };
            let Some(SavedMemory { bytes, checksum }) = found.memory.as_ref().map(saved) else {
                return refuse(PortErrorKind::Corrupt, format!("the memory file {file} is not whole"));
            };
            let way = MemoryWay::Unknown;
            let file = file.to_owned();
            let place = SavedIn::File { file, way, checksum, compression: Compression::None };
            let memory = MemoryMeta { place, bytes };
            Ok(FoundMemory { memory, header: MemoryHeader::default(), written })
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
impl Power for FakeBackend {
    async fn abilities(&self) -> Result<Abilities, PortError> {
        self.machine("power.abilities", |state| Ok(state.abilities.clone()))
    }

    async fn end(&self) -> Result<(), PortError> {
        self.machine("power.end", |state| {
            if state.guest != GuestState::Off {
                state.die();
            }
            Ok(())
        })
    }

    async fn start(&self, run: Run) -> Result<(), PortError> {
        self.machine("power.start", |state| {
            if state.guest != GuestState::Off {
                return refuse(PortErrorKind::AlreadyExists, "it runs already");
            }
            state.open_described();
            state.guest = of_run(run);
            state.boot();
            Ok(())
        })
    }

    async fn restore(
        &self,
        memory: &MemoryMeta,
        run: Run,
        _progress: &dyn Progress,
    ) -> Result<(), PortError> {
        self.machine("power.restore", |state| {
            if state.guest != GuestState::Off {
                return refuse(PortErrorKind::AlreadyExists, "it runs already");
            }
            let file = memory.file().and_then(|file| state.memory_files.get(file));
            let Some(memory) = file.and_then(|file| file.memory.clone()) else {
                return refuse(PortErrorKind::NotFound, "the memory file is not there");
            };
            state.open_described();
            state.memory = memory;
            state.guest = of_run(run);
            Ok(())
        })
    }
}

#[async_trait]
impl Release for FakeBackend {
    async fn release(&self) -> Result<(), PortError> {
        self.machine("release.release", |state| {
            if state.guest != paused() {
                return refuse(PortErrorKind::Refused, "there is no guest that stands still");
            }
            state.released = true;
            Ok(())
        })
    }

    async fn take_back(&self) -> Result<(), PortError> {
        self.machine("release.take_back", |state| {
            if !matches!(state.guest, GuestState::On(_)) {
                return refuse(PortErrorKind::Refused, "there is no process");
            }
            state.released = false;
            Ok(())
        })
    }
}

#[async_trait]
impl Pause for FakeBackend {
    async fn stop(&self) -> Result<(), PortError> {
        self.machine("pause.stop", |state| {
            state.must_be_on()?;
            state.guest = paused();
            Ok(())
        })
    }

    async fn resume(&self) -> Result<(), PortError> {
        self.machine("pause.resume", |state| {
            state.is_on()?;
            state.guest = running();
            Ok(())
        })
    }

    async fn reset(&self) -> Result<(), PortError> {
        self.machine("pause.reset", |state| {
            state.is_on()?;
            state.boot();
            Ok(())
        })
    }
}

#[async_trait]
impl Agent for FakeBackend {
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

impl FakeBackend {
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

    /// Puts a memory file there, as another program would.
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

    /// Changes a byte of a memory file, as another program would.
    pub fn spoil(&self, file: &str) {
        self.state().memory_files.get_mut(file).expect("the file is there").spoilt = true;
    }

    /// Takes a memory file away, as another program would.
    pub fn lose_memory_file(&self, file: &str) {
        self.state().memory_files.remove(file);
    }

    /// Gives a memory file another name, as a user would.
    pub fn move_memory_file(&self, from: &str, to: &str) {
        let mut state = self.state();
        let file = state.memory_files.remove(from).expect("the file is there");
        state.memory_files.insert(to.to_owned(), file);
    }

    /// Changes the meta of a record, as another program would.
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
