//! Making the connection, and saying what is wrong when there is none.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::{Effect, Error, Kind};

/// Where xenstored listens: both names of the same place on most systems.
pub const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];

/// When to try again to connect.
const AGAIN: Duration = Duration::from_millis(5);

/// The settings of a [`Client`](super::Client).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long to try to connect: xenstored accepts within milliseconds unless it is stuck. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long a request may take. xenstored answers within a millisecond, but stops for some seconds while it is
    /// updated live. Default: 30 s.
    pub call_timeout: Duration,
    /// The most children that a node may have. Default: 65,536, which are more than there are domains.
    pub max_children: usize,
    /// How many changes a watch may lag behind before it misses some. Default: 256.
    pub watch_capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            max_children: 65_536,
            watch_capacity: 256,
        }
    }
}

/// Connects to the Unix socket at `path`.
pub(super) async fn connect(path: &Path, patience: Duration) -> Result<UnixStream, Error> {
    match timeout(patience, accepted(path)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(explain(path, error)),
        Err(_) => Err(explain(path, io::ErrorKind::TimedOut.into())),
    }
}

/// oxenstored lets so few connections wait that the kernel refuses one more (`EAGAIN`) when several programs come at once,
/// as while a domain is built; xenstored itself is well, and there is nothing else to wait for.
async fn accepted(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(AGAIN).await,
            done => return done,
        }
    }
}

fn explain(path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound => (
            Kind::Connect,
            format!(
                "{shown}: there is no such socket: xenstored does not run here; run this in dom0 of a Xen host"
            ),
        ),
        io::ErrorKind::PermissionDenied => {
            (Kind::Permission, format!("{shown}: no permission to connect; run as root in dom0"))
        }
        io::ErrorKind::ConnectionRefused => (
            Kind::Connect,
            format!(
                "{shown}: no process listens on it: xenstored has ended; Xen must be restarted with the host"
            ),
        ),
        io::ErrorKind::TimedOut => (
            Kind::Unanswered,
            format!("{shown}: xenstored does not accept connections; see whether it is stuck"),
        ),
        io::ErrorKind::InvalidInput => (
            Kind::Connect,
            format!("{shown}: the path is too long for a socket (107 bytes); use a shorter one"),
        ),
        _ => (Kind::Connect, format!("{shown}: connecting failed")),
    };
    Error::new(kind, Effect::None, message).with_source(error)
}
