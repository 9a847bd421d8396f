//! The sockets that memory goes through.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::sockopt;
use tokio::net::UnixListener;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::Getfd;
use xlsnap_qmp_transport::{Kind, Qmp, QmpExt};

use crate::error;

/// What QEMU calls its end of a pair. The next one takes its place, so that a save which is given up leaves one at most.
const NAME: &str = "xlsnap-memory";

/// Where a guest's memory comes out.
#[derive(Debug)]
pub(super) enum Outlet {
    /// A pair of sockets, of which QEMU was passed the other one: it may be of any user, and of any root.
    Passed(UnixStream),
    /// A socket that QEMU connects to, where the monitor carries no descriptors.
    Listening(Listening),
}

/// Whether QEMU can be passed a socket. Its end of one that is closed stays with it under [`NAME`].
pub(super) async fn can_be_passed(qmp: &dyn Qmp) -> Result<bool, PortError> {
    Ok(passed(qmp).await?.is_ok())
}

/// A pair of sockets of which QEMU has the other one, or its refusal.
async fn passed(qmp: &dyn Qmp) -> Result<Result<UnixStream, xlsnap_qmp_transport::Error>, PortError> {
    let (ours, theirs) = UnixStream::pair().map_err(|e| {
        PortError::new(PortErrorKind::Failed, Effect::None, "no pair of sockets can be made").with_source(e)
    })?;
    hold_more(&theirs);
    match qmp.execute_with(Getfd { fdname: NAME.to_owned() }, theirs.into()).await {
        Ok(_) => Ok(Ok(ours)),
        Err(error) if error.kind() == Kind::Rejected => Ok(Err(error)),
        Err(error) => Err(error::of_qmp("QEMU was not given a socket for the memory".into(), error)),
    }
}

/// Lets QEMU go on when it is faster for a while than what reads it: on a busy machine they wait for each other less often.
fn hold_more(theirs: &UnixStream) {
    const BUFFER: usize = 4 << 20;
    // Past the system's limit, as root may (socket(7), SO_SNDBUFFORCE); else as far as that. It is as well with what it is.
    if sockopt::set_socket_send_buffer_size_force(theirs, BUFFER).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(theirs, BUFFER);
    }
}

impl Outlet {
    /// For the save `token`.
    ///
    /// # Cancel safety
    /// Dropped, it leaves QEMU a socket without another end at most.
    pub(super) async fn open(qmp: &dyn Qmp, directory: &Path, token: &str) -> Result<Self, PortError> {
        match passed(qmp).await? {
            Ok(ours) => Ok(Self::Passed(ours)),
            Err(error) => {
                tracing::debug!(%error, "QEMU is given a socket to connect to");
                Listening::bind(directory, token).map(Self::Listening)
            }
        }
    }

    /// As QEMU's `migrate` wants it.
    pub(super) fn uri(&self) -> String {
        match self {
            Self::Passed(_) => format!("fd:{NAME}"),
            Self::Listening(listening) => listening.uri(),
        }
    }
}

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
