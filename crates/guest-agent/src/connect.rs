//! Making the connection, and saying what is wrong when there is none.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Effect, Error, Kind};

/// Connects to the Unix socket at `path`.
pub(crate) async fn connect(path: &Path, deadline: Instant) -> Result<UnixStream, Error> {
    /// A full queue of waiting clients empties when the one that is served leaves; nothing tells us when.
    const RETRY: Duration = Duration::from_millis(10);
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
            format!(
                "{shown}: other clients hold the guest agent's socket and wait for it; end them or try again"
            ),
        ),
        io::ErrorKind::NotFound => (
            Kind::Connect,
            format!("{shown}: there is no such socket; start QEMU with a port for the guest's agent there"),
        ),
        io::ErrorKind::PermissionDenied => (
            Kind::Connect,
            format!("{shown}: no permission to connect; run as the user that QEMU runs as, or as root"),
        ),
        // Linux refuses a connection to any file that is no socket, too.
        io::ErrorKind::ConnectionRefused if !is_socket(path) => {
            (Kind::Connect, format!("{shown}: is not a socket; give the path of the guest agent's socket"))
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
