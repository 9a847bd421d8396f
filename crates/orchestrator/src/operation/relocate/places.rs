//! Which files a request means, and whether they are where it says.

use std::collections::BTreeMap;

use futures_util::future::{Either, select};
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, SnapshotName};

use crate::error::from_port;
use crate::execute::interrupted;
use crate::plan::{self, Moved, MovedMemory, NamedMemory};
use crate::{DomainRef, Effect, Error, Kind, LayerFile, MemoryFiles, PortErrorKind, Ports, RelocateRequest};

/// A request, and what it may mean.
pub(super) struct Places<'a> {
    pub(super) ports: &'a Ports<'a>,
    pub(super) domain: &'a DomainRef,
    pub(super) request: &'a RelocateRequest,
    /// The files of chains that something names.
    pub(super) known: &'a [LayerFile],
    pub(super) records: &'a BTreeMap<SnapshotName, Record>,
}

/// A file that a request gives another name.
struct Meant<'a> {
    file: &'a str,
    to: String,
    /// Whether the request names the file itself, and not a directory above it.
    is_itself: bool,
    of: Of<'a>,
}

/// Whose a file is.
enum Of<'a> {
    Disk(&'a DiskName),
    Memory(&'a SnapshotName),
}

/// What was found of one.
enum Place {
    /// It is under its new name.
    There,
    /// It is under its old name still: a sentence. It was not named itself.
    Still(String),
}

impl Places<'_> {
    /// The files that the request means, of those that something names.
    pub(super) async fn look(&self) -> Result<(Moved, Vec<MovedMemory>), Error> {
        let (mut moved, mut memory) = (Moved::default(), Vec::new());
        let mut still_there = None;
        for LayerFile { disk, file, .. } in self.known {
            let Some(meant) = self.meant(file, Of::Disk(disk)) else { continue };
            match self.place(&meant).await? {
                Place::Still(message) => still_there = still_there.or(Some(message)),
                Place::There => self.add(&mut moved, meant)?,
            }
        }
        for named in plan::memories(self.records) {
            let Some(meant) = self.meant(named.file, Of::Memory(named.snapshot)) else { continue };
            let files = self.ports.memory_files.need(&self.about())?;
            match self.place(&meant).await? {
                Place::Still(message) => still_there = still_there.or(Some(message)),
                Place::There => memory.push(self.recognized(files, &named, &meant).await?),
            }
        }
        self.refuse_unmet(&moved, &memory, still_there)?;
        Ok((moved, memory))
    }

    fn about(&self) -> String {
        format!("files of domain {} cannot be followed", self.domain.name)
    }

    fn meant<'f>(&self, file: &'f str, of: Of<'f>) -> Option<Meant<'f>> {
        let (to, is_itself) = plan::new_name(&self.request.moves, file)?;
        Some(Meant { file, to, is_itself, of })
    }

    /// Whose a file is, as a clause.
    fn whose(&self, meant: &Meant<'_>) -> String {
        match meant.of {
            Of::Disk(disk) => format!("disk {disk} of domain {}", self.domain.name),
            Of::Memory(snapshot) => {
                format!("the memory of snapshot {snapshot} of domain {}", self.domain.name)
            }
        }
    }

    async fn is_there(&self, of: &Of<'_>, file: &str) -> Result<bool, Error> {
        match of {
            Of::Disk(_) => {
                let found = self.ports.overlays.need(&self.about())?.exists(file).await;
                found.map_err(|e| from_port(e, format!("whether {file} is there cannot be told")))
            }
            Of::Memory(_) => {
                let found = self.ports.memory_files.need(&self.about())?.size(file).await;
                let found = found.map_err(|e| from_port(e, format!("{file} is no memory file")))?;
                Ok(found.is_some())
            }
        }
    }

    /// Whether a file has left its old name and has its new one.
    async fn place(&self, meant: &Meant<'_>) -> Result<Place, Error> {
        let Meant { file, to, is_itself, of } = meant;
        let whose = self.whose(meant);
        if self.is_there(of, file).await? {
            let message = format!("{file} ({whose}) is there still");
            return if *is_itself || to == file { Err(still(message)) } else { Ok(Place::Still(message)) };
        }
        if !self.is_there(of, to).await? {
            let message = format!("{file} ({whose}) is not at {to}");
            return Err(refused(message, "name the place where it is"));
        }
        Ok(Place::There)
    }

    fn add(&self, moved: &mut Moved, Meant { file, to, .. }: Meant<'_>) -> Result<(), Error> {
        if let Some((other, _)) = moved.0.iter().find(|(_, now)| **now == to) {
            if plan::plain(other) == plan::plain(file) {
                return Ok(());
            }
            let message = format!("{other} and {file} cannot both be {to} (domain {})", self.domain.name);
            return Err(refused(message, "name the file of each"));
        }
        moved.0.insert(file.to_owned(), to);
        Ok(())
    }

    /// Refuses a file that is not the memory file which the record has under its old name.
    async fn recognized(
        &self,
        files: &dyn MemoryFiles,
        named: &NamedMemory<'_>,
        meant: &Meant<'_>,
    ) -> Result<MovedMemory, Error> {
        let (Meant { file, to, .. }, whose) = (meant, self.whose(meant));
        let memory = named.memory.renamed(to);
        let looking = files.recognize(&memory, named.token.as_deref(), self.ports.progress);
        let looked = match self.ports.interrupt.get() {
            None => looking.await,
            Some(interrupt) => match select(looking, interrupt.requested()).await {
                Either::Left((looked, _)) => looked,
                Either::Right(((), _)) => return Err(interrupted(Effect::None)),
            },
        };
        let sign = looked.map_err(|e| {
            let is_other = matches!(e.kind, PortErrorKind::Corrupt | PortErrorKind::Refused);
            if is_other {
                from_port(e, format!("{to} is not {file} ({whose})"))
                    .ended_as(Kind::Refused, Effect::None)
                    .with_advice("name the file that was moved")
            } else {
                from_port(e, format!("whether {to} is {file} ({whose}) cannot be told"))
            }
        })?;
        let (from, to) = ((*file).to_owned(), to.clone());
        Ok(MovedMemory { snapshot: named.snapshot.clone(), from, to, sign })
    }

    /// Refuses a request of which one part means no file that was moved.
    fn refuse_unmet(
        &self,
        moved: &Moved,
        memory: &[MovedMemory],
        still_there: Option<String>,
    ) -> Result<(), Error> {
        let met = || moved.0.keys().chain(memory.iter().map(|moved| &moved.from));
        for wanted in &self.request.moves {
            if met().any(|file| plan::new_name(std::slice::from_ref(wanted), file).is_some()) {
                continue;
            }
            if let Some(message) = still_there {
                return Err(still(message));
            }
            let message = format!("nothing of domain {} names a file {}", self.domain.name, wanted.old);
            let memories = plan::memories(self.records);
            let names = self.known.iter().map(|known| known.file.as_str());
            let names: Vec<&str> = names.chain(memories.iter().map(|named| named.file)).collect();
            let advice = format!(
                "its files are: {}; the header of another one is changed by qemu-img rebase -u",
                names.join(", ")
            );
            return Err(Error::new(Kind::NotFound, Effect::None, message).with_advice(advice));
        }
        Ok(())
    }
}

fn still(message: String) -> Error {
    refused(message, "move it first; a copy is no move until the file is gone from its old place")
}

fn refused(message: String, advice: &str) -> Error {
    Error::new(Kind::Refused, Effect::None, message).with_advice(advice.to_owned())
}
