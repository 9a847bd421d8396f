//! The sockets that memory goes through.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

/// A Unix socket's address holds 108 bytes, with the NUL that ends it (unix(7)).
const MAX_PATH: usize = 107;

/// A socket that QEMU connects to; removed when it is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Listening {
    /// The socket for the save `token`.
    pub(super) fn bind(directory: &Path, token: &str) -> Result<Self, PortError> {
        let path = path_of(directory, token);
        check_length(&path)?;
        let listener = UnixListener::bind(&path).map_err(|e| not_made(&path, e))?;
        Ok(Self { listener, path })
    }

    /// As QEMU's `migrate` wants it.
    pub(super) fn uri(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Waits for QEMU.
    ///
    /// # Cancel safety
    /// It may be dropped and called again.
    pub(super) async fn accept(&self) -> io::Result<tokio::net::UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where QEMU connects to for the save `token`.
pub(super) fn path_of(directory: &Path, token: &str) -> PathBuf {
    directory.join(format!("{token}.mem"))
}

/// A socket's path has a limit that a file's has not.
pub(crate) fn check_length(path: &Path) -> Result<(), PortError> {
    let length = path.as_os_str().len();
    if length > MAX_PATH || path.to_str().is_none_or(|path| path.contains(',')) {
        let message = format!(
            "the path of the socket {} cannot be used: it has {length} bytes, of {MAX_PATH} at most, \
             and no commas",
            path.display()
        );
        return Err(PortError::new(PortErrorKind::Refused, Effect::None, message));
    }
    Ok(())
}

/// The error of a socket, or a file beside it, that cannot be made.
pub(super) fn not_made(path: &Path, error: io::Error) -> PortError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => PortErrorKind::NotFound,
        io::ErrorKind::AlreadyExists | io::ErrorKind::AddrInUse => PortErrorKind::AlreadyExists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PortErrorKind::NoSpace,
        _ => PortErrorKind::Failed,
    };
    PortError::new(kind, Effect::None, format!("{} cannot be made", path.display())).with_source(error)
}
