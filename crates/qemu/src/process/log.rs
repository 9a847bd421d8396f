//! The file that takes what QEMU prints, and whose lock tells that a QEMU lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

use super::Launch;

/// Beyond this, what earlier runs printed is thrown away.
const MAX_LOG: u64 = 1 << 20;

/// How much of the end is shown.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 20;

/// The log, locked. The lock belongs to the open file, which QEMU gets as its standard output: it lasts as long as QEMU, also
/// when the program that started it crashed before it could write down which process that is.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) file: File,
    path: PathBuf,
    /// Where this run's output begins.
    start: u64,
}

impl Log {
    pub(super) fn open(domain: &Launch) -> Result<Self, PortError> {
        let path = &domain.log;
        let cannot = |e: io::Error| {
            let message = format!("domain {}: its log {} cannot be opened", domain.name, path.display());
            PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
        };
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = OpenOptions::new();
        let file =
            options.append(true).create(true).mode(0o600).custom_flags(flags).open(path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(cannot(e)),
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "domain {}: a process that was started for it still has the log {} open",
                    domain.name,
                    path.display()
                );
                return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
            }
        }
        let mut start = file.metadata().map_err(cannot)?.len();
        if start > MAX_LOG {
            file.set_len(0).map_err(cannot)?;
            start = 0;
        }
        Ok(Self { file, path: path.clone(), start })
    }

    /// The end of what this run printed, as lines for people.
    pub(super) fn tail(&self) -> String {
        tail(&self.path, self.start).unwrap_or_else(|e| format!("(the log cannot be read: {e})"))
    }
}

/// Whether a process that was started for a domain has its log: it has not ended, or is about to become the program that it is to be.
pub(super) fn is_held(path: &Path) -> bool {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn tail(path: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(end.saturating_sub(TAIL_BYTES).max(start)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
