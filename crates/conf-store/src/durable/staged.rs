//! A file that is written but not yet under its name.

use super::{Dir, calls, refusal};
use crate::{Effect, Error};

/// A temporary file with its content. Dropping it before [`Staged::publish`] removes it.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    dir: &'a Dir,
    /// The temporary name; `None` once it has another.
    temporary: Option<String>,
    file: rustix::fd::OwnedFd,
}

impl<'a> Staged<'a> {
    /// Writes `content` into the new file `temporary`; what a crash left under that name is removed.
    pub(super) fn write(dir: &'a Dir, temporary: String, content: &[u8]) -> Result<Self, Error> {
        let failed = |what, errno| refusal::failed(what, &dir.path().join(&temporary), errno);
        let file = match calls::create(dir.fd(), &temporary) {
            Err(rustix::io::Errno::EXIST) => {
                calls::unlink(dir.fd(), &temporary).map_err(|errno| failed("remove", errno))?;
                calls::create(dir.fd(), &temporary)
            }
            result => result,
        }
        .map_err(|errno| failed("create", errno))?;
        let staged = Self { dir, temporary: Some(temporary), file };
        calls::write(&staged.file, content).map_err(|errno| staged.failed("write", errno))?;
        Ok(staged)
    }

    /// Flushes the content to the disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        calls::sync(&self.file).map_err(|errno| self.failed("flush", errno))
    }

    /// Gives the file its name: the step that readers see. It survives a power cut once the directory is flushed.
    pub(crate) fn publish(mut self, name: &str, replace: bool) -> Result<(), Error> {
        let temporary = self.temporary.as_deref().expect("it has the temporary name until it is published");
        // A failed rename on a network may have been done by the server; everywhere else it was not.
        calls::rename(self.dir.fd(), temporary, name, replace).map_err(|errno| {
            let error = refusal::failed("write", &self.dir.path().join(name), errno);
            if errno == rustix::io::Errno::IO { error.with_effect(Effect::Unknown) } else { error }
        })?;
        self.temporary = None;
        Ok(())
    }

    fn failed(&self, what: &str, errno: rustix::io::Errno) -> Error {
        let name = self.temporary.as_deref().unwrap_or_default();
        refusal::failed(what, &self.dir.path().join(name), errno)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            // What stays behind is never read, and the next writer removes it.
            let _ = calls::unlink(self.dir.fd(), name);
        }
    }
}
