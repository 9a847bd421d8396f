//! Which files a request means, and whether they are where it says.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{Either, select};
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, LayerRecord, SnapshotName};

use crate::error::from_port;
use crate::execute::interrupted;
use crate::plan::{self, Moved, MovedMemory, NamedMemory};
use crate::{
    DomainRef, Effect, Error, FileIdentity, Kind, LayerFile, LayerStat, MemorySign, PortError, PortErrorKind,
    Ports, RelocateRequest,
};

/// A request, and what it may mean.
pub(super) struct Places<'a> {
    pub(super) ports: &'a Ports<'a>,
    pub(super) domain: &'a DomainRef,
    pub(super) request: &'a RelocateRequest,
    /// The files of chains that something names.
    pub(super) known: &'a [LayerFile],
    pub(super) records: &'a BTreeMap<SnapshotName, Record>,
    pub(super) ledger: &'a [LayerRecord],
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
    Memory(&'a NamedMemory<'a>),
}

/// What was found of one.
enum Place {
    /// It is under its new name.
    There,
    /// It is under its old name still: a sentence. It was not named itself.
    Still(String),
    /// It is under its old name still, which the request gives another file: a sentence.
    Kept(String),
}

impl Places<'_> {
    /// The files that the request means, of those that something names.
    pub(super) async fn look(&self) -> Result<(Moved, Vec<MovedMemory>), Error> {
        let (mut moved, mut memory) = (Moved::default(), Vec::new());
        let (mut still_there, mut kept) = (None, None);
        let memories = plan::memories(self.records);
        let taken = self.taken(&memories);
        for LayerFile { disk, file, .. } in self.known {
            let Some(meant) = self.meant(file, Of::Disk(disk)) else { continue };
            match self.place(&meant, &taken).await? {
                Place::Still(message) => still_there = still_there.or(Some(message)),
                Place::Kept(message) => kept = kept.or(Some(message)),
                Place::There => self.add(&mut moved, meant)?,
            }
        }
        for named in &memories {
            let Some(meant) = self.meant(named.file, Of::Memory(named)) else { continue };
            match self.place(&meant, &taken).await? {
                Place::Still(message) => still_there = still_there.or(Some(message)),
                Place::Kept(message) => kept = kept.or(Some(message)),
                Place::There => memory.push(self.recognized(named, &meant).await?),
            }
        }
        if let Some(message) = kept {
            // As after one that was done: there is nothing to follow.
            let is_all = moved.0.is_empty() && memory.is_empty();
            let kind = if is_all { Kind::NotFound } else { Kind::Refused };
            return Err(Error::new(kind, Effect::None, message)
                .with_advice("name the files that were moved; this one has the name that the domain knows"));
        }
        self.refuse_unmet(&moved, &memory, still_there)?;
        Ok((moved, memory))
    }

    /// The names that the request gives to files, plain.
    fn taken(&self, memories: &[NamedMemory<'_>]) -> BTreeSet<String> {
        let files = self.known.iter().map(|known| known.file.as_str());
        let files = files.chain(memories.iter().map(|named| named.file));
        let given = files.filter_map(|file| {
            let (to, _) = plan::new_name(&self.request.moves, file)?;
            Some(plan::plain(&to)).filter(|to| *to != plan::plain(file))
        });
        given.chain(self.request.moves.iter().map(|moved| plan::plain(&moved.new))).collect()
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
            Of::Memory(NamedMemory { snapshot, .. }) => {
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

    /// Whether a file has left its old name and has its new one. Its old name may be another one's, where the request says so.
    async fn place(&self, meant: &Meant<'_>, taken: &BTreeSet<String>) -> Result<Place, Error> {
        let Meant { file, to, is_itself, of } = meant;
        let whose = self.whose(meant);
        if self.is_there(of, file).await? {
            let message = format!("{file} ({whose}) is there still");
            let is_kept = plan::plain(to) == plan::plain(file);
            if is_kept || !taken.contains(&plan::plain(file)) {
                return if *is_itself || is_kept { Err(still(message)) } else { Ok(Place::Still(message)) };
            }
            if self.is_the_one(meant).await? {
                return Ok(Place::Kept(message));
            }
        }
        if !self.is_there(of, to).await? {
            let message = format!("{file} ({whose}) is not at {to}");
            return Err(refused(message, "name the place where it is"));
        }
        Ok(Place::There)
    }

    /// Whether what has the old name of a file is that file, as far as can be told.
    async fn is_the_one(&self, meant: &Meant<'_>) -> Result<bool, Error> {
        match meant.of {
            Of::Disk(disk) => {
                let Some(entry) = self.ledger.iter().find(|entry| entry.file == meant.file) else {
                    return Ok(false);
                };
                let (disk, file, format) = (disk.clone(), meant.file.to_owned(), entry.format.clone());
                let file = LayerFile { disk, file, format, identity: None };
                let found = self.ports.layers.need(&self.about())?.stat(&file).await;
                let found = found.map_err(|e| from_port(e, format!("{} cannot be looked at", meant.file)))?;
                let noted = FileIdentity { device: entry.device, inode: entry.inode };
                Ok(found.is_some_and(|LayerStat { identity, stamp }| {
                    noted.is_still(identity) && (entry.stamp.is_none() || entry.stamp == stamp)
                }))
            }
            Of::Memory(named) => match self.sign(named, named.file).await {
                Ok(sign) => Ok(sign != MemorySign::Size),
                Err(e) if is_another(&e) => Ok(false),
                Err(e) => Err(from_port(e, format!("{} cannot be read", meant.file))),
            },
        }
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

    /// What tells that a file is the memory file of a record.
    async fn sign(&self, named: &NamedMemory<'_>, file: &str) -> Result<MemorySign, PortError> {
        let refused = |e: Error| PortError::new(PortErrorKind::Refused, Effect::None, e.to_string());
        let files = self.ports.memory_files.need(&self.about()).map_err(refused)?;
        files.recognize(&named.memory.renamed(file), named.token.as_deref(), self.ports.progress).await
    }

    /// Refuses a file that is not the memory file which the record has under its old name.
    async fn recognized(&self, named: &NamedMemory<'_>, meant: &Meant<'_>) -> Result<MovedMemory, Error> {
        let (Meant { file, to, .. }, whose) = (meant, self.whose(meant));
        let looking = Box::pin(self.sign(named, to));
        let looked = match self.ports.interrupt.get() {
            None => looking.await,
            Some(interrupt) => match select(looking, interrupt.requested()).await {
                Either::Left((looked, _)) => looked,
                Either::Right(((), _)) => return Err(interrupted(Effect::None)),
            },
        };
        let sign = looked.map_err(|e| {
            if is_another(&e) {
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

/// Whether a memory file was read, and is not the one.
fn is_another(error: &PortError) -> bool {
    matches!(error.kind, PortErrorKind::Corrupt | PortErrorKind::Refused)
}

fn still(message: String) -> Error {
    refused(message, "move it first; a copy is no move until the file is gone from its old place")
}

fn refused(message: String, advice: &str) -> Error {
    Error::new(Kind::Refused, Effect::None, message).with_advice(advice.to_owned())
}
