//! The directory of domain files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use xlsnap_conf_store as store;
use xlsnap_conf_store::durable::{Dir, LockFile};
use xlsnap_orchestrator::{Error, ImageFile};
use xlsnap_types::model::{DiskName, DomainName};

use super::{Domain, MAX_FILE_BYTES, RunFile, parse, render, with_image};
use crate::failures::{from_store, not_found, refused};

const SUFFIX: &str = ".toml";
/// No domain's name starts with a dot.
const LOCK: &str = ".lock";

/// The directory `<root>/domains`, which may not be there yet.
#[derive(Debug, Clone)]
pub(crate) struct DomainFiles {
    path: PathBuf,
    /// The directory of the sockets that domain files do not place.
    run: PathBuf,
}

/// A domain that a file describes, by the file's name.
#[derive(Debug)]
pub struct FiledDomain {
    /// The domain's name.
    pub name: DomainName,
    /// The domain, or why its file is refused.
    pub domain: Result<Domain, Error>,
}

/// Held while the set of domain files is changed, so that no two of them come to claim one image or uuid.
#[derive(Debug)]
#[must_use = "dropping it lets others change the domain files"]
pub(crate) struct DomainFilesLock {
    _file: LockFile,
}

impl DomainFiles {
    pub(crate) fn new(root: &Path) -> Self {
        Self { path: root.join("domains"), run: root.join("run") }
    }

    /// Makes the directory of sockets, which only we may enter.
    pub(crate) fn make_run_directory(&self) -> Result<(), Error> {
        Dir::create(&self.run).map(drop).map_err(|e| from_store(e, "the directory of sockets cannot be made"))
    }

    /// The directory of sockets.
    pub(crate) fn run_directory(&self) -> &Path {
        &self.run
    }

    /// What is written down of the domain's process.
    pub(crate) fn run_file(&self, name: &DomainName) -> RunFile {
        RunFile::new(self.path.clone(), name.clone())
    }

    /// The file that takes what the domain's QEMU prints.
    pub(crate) fn log_of(&self, name: &DomainName) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    /// Where the file of a domain is, for people.
    pub(crate) fn path_of(&self, name: &DomainName) -> PathBuf {
        self.path.join(file_name(name))
    }

    /// The names of all domains that have a file, sorted. Files of other names are no domain's.
    pub(crate) fn names(&self) -> Result<Vec<DomainName>, Error> {
        let Some(dir) = self.dir()? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        dir.names(&mut |name| {
            names.extend(name.strip_suffix(SUFFIX).and_then(|stem| DomainName::new(stem).ok()));
        })
        .map_err(|e| from_store(e, "the domain files cannot be listed"))?;
        names.sort_unstable();
        Ok(names)
    }

    /// The domain `name`; `None` when there is no file of it.
    pub(crate) fn load(&self, name: &DomainName) -> Result<Option<Domain>, Error> {
        let Some(dir) = self.dir()? else { return Ok(None) };
        match text(&dir, name)? {
            Some(text) => parse(name, &text, &self.run).map(Some),
            None => Ok(None),
        }
    }

    /// All domains, each with its name; one whose file is refused does not hide the others.
    pub(crate) fn load_all(&self) -> Result<Vec<FiledDomain>, Error> {
        let mut all = Vec::new();
        for name in self.names()? {
            match self.load(&name) {
                // Removed since it was listed.
                Ok(None) => {}
                Ok(Some(domain)) => all.push(FiledDomain { name, domain: Ok(domain) }),
                Err(error) => all.push(FiledDomain { name, domain: Err(error) }),
            }
        }
        Ok(all)
    }

    /// Takes the lock, waiting up to `wait` for it.
    ///
    /// Cancel safety: dropping the future takes no lock.
    pub(crate) async fn lock(&self, wait: Duration) -> Result<DomainFilesLock, Error> {
        let dir = Dir::create(&self.path)
            .map_err(|e| from_store(e, "the directory of domain files cannot be made"))?;
        let file = dir.lock(LOCK, wait).await.map_err(|e| {
            let message = match e.kind() {
                store::Kind::Busy => "another process is changing the domain files",
                _ => "the domain files cannot be locked",
            };
            from_store(e, message)
        })?;
        // What a crash left half-written does no harm, but nothing else removes it.
        if let Err(error) = dir.remove_temporaries() {
            let (error, directory) = (&error as &dyn std::error::Error, self.path.display());
            tracing::warn!(
                error,
                "what a crash left in {directory} cannot be tidied up, which the next change tries again"
            );
        }
        Ok(DomainFilesLock { _file: file })
    }

    /// Writes the file of a new domain.
    pub(crate) fn add(&self, _lock: &DomainFilesLock, domain: &Domain) -> Result<(), Error> {
        let text = render(domain)?;
        let dir = self.dir()?.ok_or_else(|| not_found("the directory of domain files is gone"))?;
        dir.create_new(&file_name(&domain.name), text.as_bytes()).map_err(|e| match e.kind() {
            store::Kind::AlreadyExists => refused(format!("there is a domain {} already", domain.name))
                .with_advice("give another name, or remove that one first"),
            _ => from_store(e, format!("the file of domain {} cannot be written", domain.name)),
        })
    }

    /// Removes the file of a domain.
    pub(crate) fn remove(&self, _lock: &DomainFilesLock, name: &DomainName) -> Result<(), Error> {
        let dir = self.dir()?.ok_or_else(|| not_found(format!("there is no domain {name}")))?;
        dir.remove(&file_name(name))
            .map_err(|e| from_store(e, format!("the file of domain {name} cannot be removed")))?;
        // What is left of a process that has ended means nothing any more.
        for suffix in ["run", "log"] {
            let _ = dir.remove(&format!("{name}.{suffix}"));
        }
        Ok(())
    }

    /// Makes these the images of the disks; everything else in the file stays as it is.
    pub(crate) fn set_images(
        &self,
        _lock: &DomainFilesLock,
        name: &DomainName,
        images: &[(DiskName, ImageFile)],
    ) -> Result<(), Error> {
        let gone = || not_found(format!("the file of domain {name} is gone"));
        let dir = self.dir()?.ok_or_else(gone)?;
        let old = text(&dir, name)?.ok_or_else(gone)?;
        let mut new = old.clone();
        for (disk, ImageFile { file, format }) in images {
            new = with_image(name, &new, disk, file, format)?;
        }
        if new == old {
            return Ok(());
        }
        dir.replace(&file_name(name), new.as_bytes())
            .map_err(|e| from_store(e, format!("the file of domain {name} cannot be written")))
    }

    fn dir(&self) -> Result<Option<Dir>, Error> {
        match Dir::open(&self.path) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.kind() == store::Kind::NotFound => Ok(None),
            Err(e) => Err(from_store(e, "the directory of domain files cannot be used")),
        }
    }
}

fn file_name(name: &DomainName) -> String {
    format!("{name}{SUFFIX}")
}

fn text(dir: &Dir, name: &DomainName) -> Result<Option<String>, Error> {
    let bytes = match dir.read(&file_name(name), MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == store::Kind::NotFound => return Ok(None),
        Err(e) => return Err(from_store(e, format!("the file of domain {name} cannot be read"))),
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|e| refused(format!("the file of domain {name} is no UTF-8 text")).with_source(e))
}
