//! The client as its users see it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

use super::connect::{Options, connect};
use super::driver::{Driver, Order};
use crate::session::{Config, Greeting, Session};
use crate::{Effect, Error, EventStream, Kind, Qmp, looks};

/// A connection to one QMP monitor.
///
/// It owns one task, which ends with it: [`Client::close`] waits for its end; dropping the client aborts it, which
/// closes the connection. QEMU then still executes what was sent, and may hand the reply to its next client; close
/// the client to leave the monitor clean.
#[derive(Debug)]
pub struct Client {
    peer: String,
    peer_pid: Option<u32>,
    peer_path: Option<PathBuf>,
    greeting: Greeting,
    call_timeout: Duration,
    query_timeout: Duration,
    orders: mpsc::UnboundedSender<Order>,
    next_token: AtomicU64,
    events: broadcast::Sender<crate::Event>,
    /// Held while a descriptor is on its way to its command, if this connection carries any.
    passing: Option<Box<Mutex<()>>>,
    task: Task,
}

impl Client {
    /// Connects to the Unix socket at `path` and negotiates.
    ///
    /// # Errors
    /// All without effect. [`Kind::Connect`]: no connection, and what to do about it. [`Kind::Busy`]: another client
    /// holds the monitor. [`Kind::Protocol`]: something that is not QMP. [`Kind::TimedOut`], [`Kind::Disconnected`]:
    /// the negotiation did not come to its end.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; nothing was executed.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn connect_unix(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = connect(path, options.connect_timeout).await?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let bound = stream.peer_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
        // One that cannot be watched once more carries no descriptors, and all else.
        let again = stream.as_fd().try_clone_to_owned().map(std::os::unix::net::UnixStream::from);
        let carrier = again.and_then(UnixStream::from_std).ok();
        let client = Self::negotiate(stream, path.display().to_string(), options, carrier).await?;
        Ok(Self { peer_pid: pid.and_then(|pid| u32::try_from(pid).ok()), peer_path: bound, ..client })
    }

    /// Negotiates over a stream that is connected already; `peer` is what messages call the other side.
    ///
    /// # Errors
    /// As [`Client::connect_unix`].
    ///
    /// # Cancel safety
    /// As [`Client::connect_unix`].
    pub async fn from_stream<S>(stream: S, peer: impl Into<String>, options: Options) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::negotiate(stream, peer.into(), options, None).await
    }

    async fn negotiate<S>(
        stream: S,
        peer: String,
        options: Options,
        carrier: Option<UnixStream>,
    ) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (nonce, _) = Uuid::new_v4().as_u64_pair();
        let mut config = Config::new(&peer, nonce);
        config.greeting_timeout = options.greeting_timeout;
        config.max_message = options.max_message;
        let session = Session::new(config, Instant::now().into_std());
        let (orders, inbox) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(options.event_capacity.max(1));
        let (ready, negotiated) = oneshot::channel();
        let passing = carrier.is_some().then(Box::default);
        let driver =
            Driver::new(session, peer.clone(), inbox, events.clone(), ready, options.close_timeout, carrier);
        let task = Task(tokio::spawn(driver.run(stream)));
        let greeting = negotiated.await.unwrap_or_else(|_| Err(gone(&peer, Effect::None)))?;
        debug!(peer, version = ?greeting.version, "connected");
        Ok(Self {
            peer,
            peer_pid: None,
            peer_path: None,
            greeting,
            call_timeout: options.call_timeout,
            query_timeout: options.query_timeout,
            orders,
            next_token: AtomicU64::new(0),
            events,
            passing,
            task,
        })
    }

    /// What QEMU said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The process that called listen(2) on the Unix socket, as the kernel says (unix(7), `SO_PEERCRED`): QEMU itself, or the
    /// program that opened the socket for it. `None` of another stream.
    pub fn peer_pid(&self) -> Option<u32> {
        self.peer_pid
    }

    /// The name that the Unix socket was bound to, as the kernel says: what its server gave, a relative one too. `None` of
    /// another stream.
    pub fn peer_path(&self) -> Option<&Path> {
        self.peer_path.as_deref()
    }

    /// As [`Qmp::execute_raw`], with its own time-out.
    ///
    /// # Errors
    /// As [`Qmp::execute_raw`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the reply. A command that was not sent yet is not sent.
    pub async fn execute_within(
        &self,
        command: &str,
        arguments: Map<String, Value>,
        timeout: Duration,
    ) -> Result<Value, Error> {
        // A time-out beyond what the clock can say is none.
        let deadline = Instant::now().checked_add(timeout).map(Instant::into_std);
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let (reply, outcome) = oneshot::channel();
        let order = Order::Call { token, command: command.to_owned(), arguments, deadline, reply };
        if self.orders.send(order).is_err() {
            let message = format!("{command}: not sent: the connection to {} is closed", self.peer);
            return Err(Error::new(Kind::Disconnected, Effect::None, message));
        }
        let mut abandon = AbandonOnDrop { orders: &self.orders, token: Some(token) };
        let outcome = outcome.await.unwrap_or_else(|_| Err(gone(&self.peer, Effect::Unknown)));
        abandon.token = None;
        outcome
    }

    /// Closes the connection. Replies to abandoned calls are awaited before, for [`Options::close_timeout`] at most,
    /// so that QEMU does not hand them to its next client.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection at once, as dropping the client does.
    pub async fn close(self) {
        let Self { orders, mut task, .. } = self;
        drop(orders);
        // It neither panics nor is it aborted before; there is nothing to do about it if it were.
        let _ = (&mut task.0).await;
    }
}

#[async_trait]
impl Qmp for Client {
    async fn execute_raw(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        if !looks(command) {
            return self.execute_within(command, arguments, self.call_timeout).await;
        }
        let answer = self.execute_within(command, arguments, self.query_timeout).await;
        answer.map_err(|error| error.with_effect(Effect::None))
    }

    async fn execute_raw_with(
        &self,
        command: &str,
        arguments: Map<String, Value>,
        descriptor: OwnedFd,
    ) -> Result<Value, Error> {
        let Some(passing) = &self.passing else {
            let why = format!("no descriptor is passed: {} is no Unix socket", self.peer);
            return Err(Error::rejected(command, "GenericError", &why));
        };
        // QEMU keeps the one that came last.
        let _alone = passing.lock().await;
        // A driver that is gone is told by the call.
        let _ = self.orders.send(Order::Pass(descriptor));
        self.execute_raw(command, arguments).await
    }

    fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    fn version(&self) -> (u32, u32, u32) {
        self.greeting.version
    }
}

fn gone(peer: &str, effect: Effect) -> Error {
    Error::new(Kind::Disconnected, effect, format!("the connection to {peer} was given up"))
}

/// The driver's task; aborted when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells the driver that the reply is not awaited any more.
struct AbandonOnDrop<'a> {
    orders: &'a mpsc::UnboundedSender<Order>,
    token: Option<u64>,
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            // A driver that has ended has no calls.
            let _ = self.orders.send(Order::Abandon { token });
        }
    }
}
