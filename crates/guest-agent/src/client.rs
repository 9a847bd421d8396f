//! The client as its users see it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::connect::connect;
use crate::session::{Config, Session};
use crate::{Effect, Error, Kind};

/// Whether the guest's file systems hold still, as the agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// They take writes.
    Thawed,
    /// They hold still: they were frozen through the agent.
    Frozen,
}

/// A connection to one guest's agent.
///
/// It sends one command at a time. Everything that takes longer than its bound is given up, and the next command sorts out
/// which request each answer that still comes belongs to. Dropping it closes the connection, which thaws nothing.
#[derive(Debug)]
pub struct Client<S = UnixStream> {
    stream: S,
    session: Session,
}

impl Client {
    /// Connects to the Unix socket at `path`, within `bound`. Whether an agent listens is known with the first command.
    ///
    /// # Errors
    /// Both without effect. [`Kind::Connect`]: no connection, and what to do about it. [`Kind::Busy`]: other clients wait already.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; nothing was sent.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn connect_unix(path: impl AsRef<Path>, bound: Duration) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = connect(path, after(bound)).await?;
        Ok(Self::from_stream(stream, path.display().to_string()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The same over a stream that is connected already; `peer` is what messages call the other side.
    pub fn from_stream(stream: S, peer: impl Into<String>) -> Self {
        let (high, _) = Uuid::new_v4().as_u64_pair();
        let nonce = u32::try_from(high >> 32).expect("a half of it fits");
        Self { stream, session: Session::new(Config::new(peer, nonce)) }
    }

    /// Whether the file systems hold still (`guest-fsfreeze-status`).
    ///
    /// # Errors
    /// All without effect: [`Kind::Silent`], [`Kind::TimedOut`], [`Kind::Protocol`], [`Kind::Rejected`], [`Kind::Disconnected`].
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn status(&mut self, bound: Duration) -> Result<Status, Error> {
        self.status_until(after(bound)).await
    }

    async fn status_until(&mut self, deadline: Instant) -> Result<Status, Error> {
        const COMMAND: &str = "guest-fsfreeze-status";
        self.session.call(COMMAND, &Map::new())?;
        let said = self.answer(deadline).await.map_err(|error| error.with_effect(Effect::None))?;
        match said.as_str() {
            Some("thawed") => Ok(Status::Thawed),
            Some("frozen") => Ok(Status::Frozen),
            _ => Err(misunderstood(COMMAND, Effect::None)),
        }
    }

    /// Makes the guest's file systems hold still (`guest-fsfreeze-freeze`), and gives how many do. They do so until
    /// [`Client::thaw`], by whomever, also after this connection has ended: nothing in the guest thaws them by itself.
    ///
    /// An agent that answers nothing is asked for nothing: one that wakes up later freezes nothing.
    ///
    /// # Errors
    /// [`Kind::Frozen`]: they are already, by whomever; nothing was done. Else as [`Client::thaw`]; with any effect but
    /// [`Effect::None`] they may be frozen, or still be frozen when the agent comes to it: thaw.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether they hold still: thaw.
    pub async fn freeze(&mut self, bound: Duration) -> Result<u32, Error> {
        const COMMAND: &str = "guest-fsfreeze-freeze";
        let deadline = after(bound);
        if self.status_until(deadline).await? == Status::Frozen {
            let message =
                format!("{COMMAND}: not sent: the guest's file systems are frozen already; thaw them first");
            return Err(Error::new(Kind::Frozen, Effect::None, message));
        }
        self.session.call(COMMAND, &Map::new())?;
        count(COMMAND, &self.answer(deadline).await?)
    }

    /// Lets the guest's file systems take writes again (`guest-fsfreeze-thaw`), and gives how many held still until then: 0
    /// when none did, which is no error.
    ///
    /// It is sent before the agent has answered anything, so that an agent that is busy, with a freeze that was given up for
    /// instance, or stands still with its guest comes to it later, whether or not a caller still waits.
    ///
    /// # Errors
    /// [`Kind::Silent`]: no agent answered anything. [`Kind::TimedOut`]: one did, and not this. [`Kind::Protocol`]: what came is no
    /// answer. [`Kind::Rejected`]: it refused or failed. [`Kind::Disconnected`]. The effect says whether it was sent.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether they were let go: thaw again.
    pub async fn thaw(&mut self, bound: Duration) -> Result<u32, Error> {
        const COMMAND: &str = "guest-fsfreeze-thaw";
        self.session.call_at_once(COMMAND, &Map::new())?;
        count(COMMAND, &self.answer(after(bound)).await?)
    }

    /// Executes any command, within `bound`, and gives its `return`.
    ///
    /// # Errors
    /// As [`Client::thaw`]. An error of the agent's may come after half of the effect, unless its class is `CommandNotFound`.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer. A command that was not sent yet is not sent.
    pub async fn execute_raw(
        &mut self,
        command: &str,
        arguments: &Map<String, Value>,
        bound: Duration,
    ) -> Result<Value, Error> {
        self.session.call(command, arguments)?;
        self.answer(after(bound)).await
    }

    /// Drives the call to its end, or to its deadline.
    async fn answer(&mut self, deadline: Instant) -> Result<Value, Error> {
        let Self { stream, session } = self;
        match timeout_at(deadline, drive(stream, session)).await {
            Ok(reply) => reply,
            Err(_) => Err(session.give_up()),
        }
    }
}

/// A future that is dropped leaves the call open, and maybe half a message written: the next call begins with a byte that makes
/// the agent forget that.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    session: &mut Session,
) -> Result<Value, Error> {
    let mut input = [0; 4096];
    loop {
        if let Some(reply) = session.poll_reply() {
            return reply;
        }
        let written = match session.poll_transmit() {
            Some(bytes) => write(stream, &bytes).await,
            None => Ok(()),
        };
        match written {
            Ok(()) => match stream.read(&mut input).await {
                Ok(0) => session.handle_close(None),
                Ok(count) => session.handle_input(&input[..count]),
                Err(error) => session.handle_close(Some(error)),
            },
            Err(error) => session.handle_close(Some(error)),
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The end of `bound` from now. One beyond what the clock can say is as good as never.
fn after(bound: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(bound).unwrap_or(now + NEVER)
}

fn count(command: &str, said: &Value) -> Result<u32, Error> {
    let count = said.as_u64().and_then(|count| u32::try_from(count).ok());
    count.ok_or_else(|| misunderstood(command, Effect::Done))
}

fn misunderstood(command: &str, effect: Effect) -> Error {
    Error::new(
        Kind::Protocol,
        effect,
        format!("{command}: the agent's answer is not what this command returns"),
    )
}
