//! The client as its users see it.

use std::path::Path as FilePath;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::{Options, SOCKETS, connect};
use super::driver::{Driver, Order, Watches};
use super::transaction::Open;
use crate::session::{Reply, Request, TransactionId};
use crate::{Effect, Error, Kind, Nodes, Path, Transaction, Watch, Watchpoint, Xenstore};

/// A connection to xenstored.
///
/// It owns one task, which ends with it. xenstored ends the watches and transactions of a connection that is closed.
#[derive(Debug)]
pub struct Client {
    peer: String,
    options: Options,
    orders: mpsc::UnboundedSender<Order>,
    next_number: AtomicU64,
    watches: Watches,
    task: Task,
}

impl Client {
    /// Connects to xenstored where it listens by default: the first of [`SOCKETS`] that is there.
    ///
    /// # Errors
    /// As [`Client::connect`].
    ///
    /// # Cancel safety
    /// It has no effect.
    ///
    /// # Panics
    /// As [`Client::connect`].
    pub async fn connect_default(options: Options) -> Result<Self, Error> {
        let there = SOCKETS.iter().find(|socket| FilePath::new(socket).exists());
        Self::connect(there.unwrap_or(&SOCKETS[0]), options).await
    }

    /// Connects to the Unix socket at `path`.
    ///
    /// # Errors
    /// All without effect. [`Kind::Connect`]: there is no xenstored. [`Kind::Permission`]: only root may connect.
    /// [`Kind::Unanswered`]: it does not accept connections.
    ///
    /// # Cancel safety
    /// It has no effect.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn connect(path: impl AsRef<FilePath>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = connect(path, options.connect_timeout).await?;
        Ok(Self::from_stream(stream, path.display().to_string(), options))
    }

    /// Uses a stream that is connected already; `peer` is what messages call the other side.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub fn from_stream<S>(stream: S, peer: impl Into<String>, options: Options) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let peer = peer.into();
        let (orders, inbox) = mpsc::unbounded_channel();
        let watches = Watches::default();
        let driver = Driver::new(peer.clone(), inbox, watches.clone());
        let task = Task(tokio::spawn(driver.run(stream)));
        Self { peer, options, orders, next_number: AtomicU64::new(0), watches, task }
    }

    /// Closes the connection and waits for the end of its task. Watches end with it.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection at once, as dropping the client does.
    pub async fn close(self) {
        let Self { orders, mut task, .. } = self;
        // No reply is awaited: a call or a transaction borrows the client.
        drop(orders);
        // It neither panics nor is it aborted before; there is nothing to do about it if it were.
        let _ = (&mut task.0).await;
    }

    /// Sends a request and waits for its reply.
    pub(super) async fn call(&self, request: Request, within: Option<TransactionId>) -> Result<Reply, Error> {
        let gone = |effect| {
            let message = format!("{request}: the connection to {} is closed", self.peer);
            Error::new(Kind::Unanswered, effect, message)
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let deadline = self.deadline();
        let (reply, outcome) = oneshot::channel();
        let order = Order::Call { number, request: request.clone(), within, deadline, reply: Some(reply) };
        if self.orders.send(order).is_err() {
            return Err(gone(Effect::None));
        }
        let mut abandon = AbandonOnDrop { orders: &self.orders, number: Some(number) };
        let outcome = outcome.await.unwrap_or_else(|_| Err(gone(Effect::Unknown)));
        abandon.number = None;
        outcome
    }

    /// Sends a request whose reply is of no interest.
    pub(super) fn tidy_up(&self, request: Request, within: Option<TransactionId>) {
        let order = Order::Call { number: u64::MAX, request, within, deadline: self.deadline(), reply: None };
        // A driver that has ended has closed the connection, which tidies up as well.
        let _ = self.orders.send(order);
    }

    pub(super) async fn read_within(
        &self,
        path: &Path,
        within: Option<TransactionId>,
    ) -> Result<Vec<u8>, Error> {
        match self.call(Request::Read(path.clone()), within).await? {
            Reply::Value(value) => Ok(value),
            other => unreachable!("the session decodes the reply to a read, not {other:?}"),
        }
    }

    pub(super) async fn directory_within(
        &self,
        path: &Path,
        within: Option<TransactionId>,
    ) -> Result<Vec<String>, Error> {
        let names = match self.call(Request::Directory(path.clone()), within).await {
            Ok(Reply::Names(names)) => names,
            Ok(other) => unreachable!("the session decodes the reply to a directory, not {other:?}"),
            // The list does not fit into one message.
            Err(error) if error.code() == Some("E2BIG") => self.directory_in_parts(path, within).await?,
            Err(error) => return Err(error),
        };
        if names.len() > self.options.max_children { Err(self.too_many(path)) } else { Ok(names) }
    }

    async fn directory_in_parts(
        &self,
        path: &Path,
        within: Option<TransactionId>,
    ) -> Result<Vec<String>, Error> {
        /// How often the list may change while it is read. It takes a few parts, each of which is fast.
        const ATTEMPTS: usize = 16;
        'attempt: for _ in 0..ATTEMPTS {
            let (mut all, mut offset, mut first) = (Vec::new(), 0_u32, None);
            loop {
                let request = Request::DirectoryPart(path.clone(), offset);
                let Reply::Part { generation, names, last } = self.call(request, within).await? else {
                    unreachable!("the session decodes the reply to a part of a directory");
                };
                if *first.get_or_insert(generation) != generation {
                    continue 'attempt;
                }
                let length: usize = names.iter().map(|name| name.len() + 1).sum();
                let next = u32::try_from(length).ok().and_then(|length| offset.checked_add(length));
                offset = next.ok_or_else(|| self.too_many(path))?;
                all.extend(names);
                if all.len() > self.options.max_children {
                    return Err(self.too_many(path));
                }
                if last {
                    return Ok(all);
                }
            }
        }
        let message = format!("list {path}: it changed {ATTEMPTS} times while it was read; try again");
        Err(Error::new(Kind::Conflict, Effect::None, message))
    }

    fn too_many(&self, path: &Path) -> Error {
        let message = format!("list {path}: it has more than {} children", self.options.max_children);
        Error::new(Kind::Limit, Effect::None, message)
    }

    pub(super) async fn done(&self, request: Request, within: Option<TransactionId>) -> Result<(), Error> {
        self.call(request, within).await.map(drop)
    }

    /// A time-out beyond what the clock can say is none.
    fn deadline(&self) -> Option<std::time::Instant> {
        Instant::now().checked_add(self.options.call_timeout).map(Instant::into_std)
    }
}

#[async_trait]
impl Nodes for Client {
    async fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.read_within(path, None).await
    }

    async fn directory(&self, path: &Path) -> Result<Vec<String>, Error> {
        self.directory_within(path, None).await
    }

    async fn write(&self, path: &Path, value: &[u8]) -> Result<(), Error> {
        self.done(Request::Write(path.clone(), value.to_vec()), None).await
    }

    async fn make_directory(&self, path: &Path) -> Result<(), Error> {
        self.done(Request::MakeDirectory(path.clone()), None).await
    }

    async fn remove(&self, path: &Path) -> Result<(), Error> {
        self.done(Request::Remove(path.clone()), None).await
    }
}

#[async_trait]
impl Xenstore for Client {
    async fn watch(&self, at: &Watchpoint) -> Result<Watch, Error> {
        let token = format!("w{}", self.next_number.fetch_add(1, Ordering::Relaxed));
        let changes = self.watches.add(&token, self.options.watch_capacity);
        // From here on, dropping the future ends the watch.
        let end = EndOfWatch {
            at: at.clone(),
            token: token.clone(),
            watches: self.watches.clone(),
            orders: self.orders.downgrade(),
        };
        self.done(Request::Watch(at.clone(), token), None).await?;
        Ok(Watch::new(at.clone(), changes, end))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction + '_>, Error> {
        match self.call(Request::Begin, None).await? {
            Reply::Begun(id) => Ok(Box::new(Open::new(self, id))),
            other => unreachable!("the session decodes the reply to a beginning, not {other:?}"),
        }
    }

    async fn domain_path(&self, domid: u16) -> Result<Path, Error> {
        match self.call(Request::DomainPath(domid), None).await? {
            Reply::Path(path) => Ok(path),
            other => unreachable!("the session decodes the reply about a domain, not {other:?}"),
        }
    }
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
    number: Option<u64>,
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // A driver that has ended has no calls.
            let _ = self.orders.send(Order::Abandon { number });
        }
    }
}

/// Ends a watch; it does not keep the connection open.
struct EndOfWatch {
    at: Watchpoint,
    token: String,
    watches: Watches,
    orders: mpsc::WeakUnboundedSender<Order>,
}

impl Drop for EndOfWatch {
    fn drop(&mut self) {
        self.watches.remove(&self.token);
        if let Some(orders) = self.orders.upgrade() {
            let request = Request::Unwatch(self.at.clone(), std::mem::take(&mut self.token));
            let order = Order::Call { number: u64::MAX, request, within: None, deadline: None, reply: None };
            // A closed connection has no watches.
            let _ = orders.send(order);
        }
    }
}
