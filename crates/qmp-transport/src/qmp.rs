//! The object-safe trait, typed commands and events.

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::broadcast;

use crate::{Effect, Error, Kind};

/// An event that QEMU sent by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name: `JOB_STATUS_CHANGE`, `STOP`, ...
    pub name: String,
    /// Its `data`; empty when it has none.
    pub data: Map<String, Value>,
    /// When QEMU sent it, in microseconds since 1970-01-01 UTC; `None` when it has no host time.
    pub timestamp_us: Option<u64>,
}

/// A subscription to events, from when it was made.
pub type EventStream = broadcast::Receiver<Event>;

/// A QMP command with typed arguments and result.
pub trait Command: Serialize + Send + Sync {
    /// Its name on the wire.
    const NAME: &'static str;
    /// What QEMU returns; members that it has beyond it are ignored.
    type Ok: DeserializeOwned;
}

/// Whether a command only looks, and QEMU has nothing to do before it answers.
///
/// Not those by which long work is followed: while a guest's last memory is sent or loaded, or a job works inside QEMU's main
/// loop, QEMU answers when that is done.
pub fn looks(command: &str) -> bool {
    let follows = matches!(command, "query-migrate" | "query-jobs" | "query-block-jobs");
    !follows && (command.starts_with("query-") || matches!(command, "qom-get" | "qom-list"))
}

/// Executes QMP commands: [`crate`]'s client, or a stand-in.
#[async_trait]
pub trait Qmp: Send + Sync {
    /// Executes `command` and gives its return value.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the reply, not the command: it may still be executed.
    async fn execute_raw(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error>;

    /// As [`Qmp::execute_raw`], with an open file beside the command (unix(7), `SCM_RIGHTS`): for those that want one
    /// ([`crate::commands::Getfd`], [`crate::commands::AddFd`]). QEMU needs no right to open it.
    ///
    /// # Errors
    /// [`Kind::Rejected`], without effect, where no descriptor reaches QEMU: over another stream than a Unix socket, or where a program
    /// in between does not hand it on. Else as [`Qmp::execute_raw`].
    ///
    /// # Cancel safety
    /// As [`Qmp::execute_raw`].
    async fn execute_raw_with(
        &self,
        command: &str,
        arguments: Map<String, Value>,
        descriptor: OwnedFd,
    ) -> Result<Value, Error> {
        drop((arguments, descriptor));
        Err(Error::rejected(command, "GenericError", "this connection carries no descriptors"))
    }

    /// Subscribes to all events from now on.
    fn events(&self) -> EventStream;

    /// QEMU's version as the greeting has it: major, minor, micro.
    fn version(&self) -> (u32, u32, u32);
}

/// Typed execution on any [`Qmp`].
#[async_trait]
pub trait QmpExt {
    /// Executes a typed command.
    async fn execute<C: Command>(&self, command: C) -> Result<C::Ok, Error>;

    /// Executes a typed command with an open file beside it; see [`Qmp::execute_raw_with`].
    async fn execute_with<C: Command>(&self, command: C, descriptor: OwnedFd) -> Result<C::Ok, Error>;
}

#[async_trait]
impl<Q: Qmp + ?Sized> QmpExt for Q {
    async fn execute<C: Command>(&self, command: C) -> Result<C::Ok, Error> {
        result::<C>(self.execute_raw(C::NAME, arguments(&command)?).await?)
    }

    async fn execute_with<C: Command>(&self, command: C, descriptor: OwnedFd) -> Result<C::Ok, Error> {
        result::<C>(self.execute_raw_with(C::NAME, arguments(&command)?, descriptor).await?)
    }
}

fn arguments<C: Command>(command: &C) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(command) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        other => {
            let why = other.err().map_or_else(|| "not an object".into(), |e| e.to_string());
            let message = format!("{}: its arguments are no JSON object ({why})", C::NAME);
            Err(Error::new(Kind::Protocol, Effect::None, message))
        }
    }
}

fn result<C: Command>(value: Value) -> Result<C::Ok, Error> {
    serde_json::from_value(value).map_err(|e| {
        Error::new(Kind::Protocol, Effect::Done, format!("{}: its result is not understood", C::NAME))
            .with_source(e)
    })
}
