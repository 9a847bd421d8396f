//! Making the connection, and saying what is wrong when there is none.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::session::Config;
use crate::{Effect, Error, Kind};

/// The settings of a [`Client`](super::Client).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long to try to connect while the socket's queue of waiting clients is full. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long to wait for the greeting, and then again for the answer to `qmp_capabilities`. Default: 5 s.
    pub greeting_timeout: Duration,
    /// How long a command that changes something may take, unless the caller says. A command that did not answer may still be executed, so
    /// that this is generous: an internal snapshot takes a second for 200 GiB. Default: 5 minutes.
    pub call_timeout: Duration,
    /// The same for a command that only looks ([`looks`](crate::looks)): QEMU answers it at once, unless it hangs. Default: 10 s.
    pub query_timeout: Duration,
    /// How long [`Client::close`](super::Client::close) waits for replies that are not awaited any more. Default: 5 s.
    pub close_timeout: Duration,
    /// The longest message, in bytes. Default: 16 MiB.
    pub max_message: usize,
    /// How many events a slow subscriber may lag behind before it misses some. Default: 256.
    pub event_capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            greeting_timeout: Config::DEFAULT_GREETING_TIMEOUT,
            call_timeout: Duration::from_secs(300),
            query_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            max_message: Config::DEFAULT_MAX_MESSAGE,
            event_capacity: 256,
        }
    }
}

/// Connects to the Unix socket at `path`.
pub(super) async fn connect(path: &Path, patience: Duration) -> Result<UnixStream, Error> {
    /// A full queue empties when the client that holds the monitor leaves; nothing tells us when.
    const RETRY: Duration = Duration::from_millis(10);
    let deadline = Instant::now() + patience;
    loop {
        match timeout_at(deadline, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if is_passing(&error) && Instant::now() < deadline => sleep(RETRY).await,
            Ok(Err(error)) => return Err(explain(path, error)),
            Err(_) => return Err(explain(path, io::ErrorKind::WouldBlock.into())),
        }
    }
}

/// Whether the next attempt tells more. A socket that ends with this connection still in its queue resets it
/// (`unix_release_sock` in the kernel's net/unix/af_unix.c); what the next attempt finds is what stays.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset)
}

fn explain(path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    let (kind, message) = match error.kind() {
        io::ErrorKind::WouldBlock => (
            Kind::Busy,
            format!("{shown}: other clients hold the monitor and wait for it; end them or try again"),
        ),
        io::ErrorKind::NotFound => (
            Kind::Connect,
            format!("{shown}: there is no such socket; start QEMU with -qmp unix:{shown},server=on,wait=off"),
        ),
        io::ErrorKind::PermissionDenied => (
            Kind::Connect,
            format!("{shown}: no permission to connect; run as the user that QEMU runs as, or as root"),
        ),
        // Linux refuses a connection to any file that is no socket, too.
        io::ErrorKind::ConnectionRefused if !is_socket(path) => {
            (Kind::Connect, format!("{shown}: is not a socket; give the path of QEMU's QMP socket"))
        }
        io::ErrorKind::ConnectionRefused => (
            Kind::Connect,
            format!("{shown}: no process listens on this socket; the QEMU that made it has ended"),
        ),
        io::ErrorKind::InvalidInput => (
            Kind::Connect,
            format!("{shown}: the path is too long for a socket (107 bytes); use a shorter one"),
        ),
        _ => (Kind::Connect, format!("{shown}: connecting failed")),
    };
    Error::new(kind, Effect::None, message).with_source(error)
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}
