//! The object-safe traits: nodes, the store, and transactions.

use std::fmt;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::{Effect, Error, Kind, Path, Watchpoint};

/// Reading and changing nodes: in the store itself, or in a transaction.
///
/// # Errors
/// Of all methods: [`Kind::NotFound`], [`Kind::Permission`], [`Kind::Limit`], [`Kind::Rejected`] are xenstored's answers.
/// After [`Kind::Unanswered`] a change has [`Effect::Unknown`]: it may still be executed. [`Kind::Protocol`] ends the
/// connection.
///
/// # Cancel safety
/// Of all methods: dropping the future abandons the reply, not the request.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// The value of a node: any bytes, at most [`session::MAX_PAYLOAD`](crate::session::MAX_PAYLOAD) of them.
    async fn read(&self, path: &Path) -> Result<Vec<u8>, Error>;

    /// The names of a node's children. Each is valid as one part of a path.
    async fn directory(&self, path: &Path) -> Result<Vec<String>, Error>;

    /// Sets the value of a node; the node and those above are made when missing.
    async fn write(&self, path: &Path, value: &[u8]) -> Result<(), Error>;

    /// Makes a node with an empty value, and those above. One that exists keeps its value.
    async fn make_directory(&self, path: &Path) -> Result<(), Error>;

    /// Removes a node and all below it. One that is missing is no error as long as the node above it exists.
    async fn remove(&self, path: &Path) -> Result<(), Error>;
}

/// Shorter ways to use any [`Nodes`].
#[async_trait]
pub trait NodesExt {
    /// The value of a node as text; `None` when there is no such node.
    ///
    /// # Errors
    /// As [`Nodes::read`]; [`Kind::Protocol`] when the value is not UTF-8.
    ///
    /// # Cancel safety
    /// It has no effect.
    async fn text(&self, path: &Path) -> Result<Option<String>, Error>;
}

#[async_trait]
impl<N: Nodes + ?Sized> NodesExt for N {
    async fn text(&self, path: &Path) -> Result<Option<String>, Error> {
        match self.read(path).await {
            Ok(value) => String::from_utf8(value).map(Some).map_err(|e| {
                let message = format!("read {path}: the value is not text");
                Error::new(Kind::Protocol, Effect::None, message).with_source(e)
            }),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A xenstore: [`crate::Client`], or a stand-in.
#[async_trait]
pub trait Xenstore: Nodes {
    /// Watches a node and all below it, or the coming and going of domains, until the [`Watch`] is dropped. One
    /// change is told at once: the state at the start is yours to look at.
    ///
    /// # Errors
    /// As those of [`Nodes`], without effect.
    ///
    /// # Cancel safety
    /// Dropping the future ends the watch.
    async fn watch(&self, at: &Watchpoint) -> Result<Watch, Error>;

    /// Begins a transaction. [`transaction`] does so and also repeats it.
    ///
    /// # Errors
    /// As those of [`Nodes`], without effect.
    ///
    /// # Cancel safety
    /// Dropping the future discards the transaction.
    async fn begin(&self) -> Result<Box<dyn Transaction + '_>, Error>;

    /// The path under which a domain's nodes lie: `/local/domain/<domid>`, for a domain that does not exist, too.
    ///
    /// # Errors
    /// As those of [`Nodes`], without effect.
    ///
    /// # Cancel safety
    /// It has no effect.
    async fn domain_path(&self, domid: u16) -> Result<Path, Error>;
}

/// A transaction: sees the tree as it was at its start, and changes it at once or not at all.
///
/// Dropping it discards it.
#[async_trait]
pub trait Transaction: Nodes {
    /// Makes its changes.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when others changed what it had used: nothing was changed, begin again.
    /// Other kinds as those of [`Nodes`].
    ///
    /// # Cancel safety
    /// Dropping the future may leave it committed or not.
    async fn commit(self: Box<Self>) -> Result<(), Error>;
}

/// Does `work` in a transaction and commits it; again from the start when others changed what it had used, 64 times
/// in all. So `work` must have no effects but those on the nodes of the transaction it is given. It hands the transaction
/// back to have it committed; its error discards it.
///
/// # Errors
/// `work`'s own; those of [`Xenstore::begin`] and [`Transaction::commit`]; [`Kind::Conflict`] after the last attempt.
///
/// # Cancel safety
/// Dropping the future while it commits may leave the transaction committed or not; before that it has no effect.
#[expect(clippy::needless_lifetimes, reason = "the bounds of W and F name it, where it cannot be elided")]
pub async fn transaction<'a, T, E, W, F>(store: &'a dyn Xenstore, mut work: W) -> Result<T, E>
where
    W: FnMut(Box<dyn Transaction + 'a>) -> F,
    E: From<Error>,
    F: Future<Output = Result<(Box<dyn Transaction + 'a>, T), E>>,
{
    /// Four clients that do nothing else but change the same node need more than ten now and then (xenstored 4.17).
    const ATTEMPTS: usize = 64;
    let mut attempt = 1;
    loop {
        let (transaction, done) = work(store.begin().await?).await?;
        match transaction.commit().await {
            Ok(()) => return Ok(done),
            Err(error) if error.kind() == Kind::Conflict && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a [`Watch`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Something happened here; xenstored may tell more than happened. Of a removed node, only the topmost is told.
    At(Watchpoint),
    /// Changes were missed because they were not taken in time: look at everything.
    Missed,
}

/// A watch; dropping it ends it.
#[must_use = "dropping a watch ends it"]
pub struct Watch {
    changes: broadcast::Receiver<Watchpoint>,
    at: Watchpoint,
    _end: Box<dyn Send + Sync>,
}

impl Watch {
    /// A watch on `at` whose changes come from `changes`; `end` is dropped with it.
    pub fn new(
        at: Watchpoint,
        changes: broadcast::Receiver<Watchpoint>,
        end: impl Send + Sync + 'static,
    ) -> Self {
        Self { changes, at, _end: Box::new(end) }
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// [`Kind::Unanswered`] when the connection is lost.
    ///
    /// # Cancel safety
    /// No change is lost.
    pub async fn next(&mut self) -> Result<Change, Error> {
        match self.changes.recv().await {
            Ok(at) => Ok(Change::At(at)),
            Err(RecvError::Lagged(_)) => Ok(Change::Missed),
            Err(RecvError::Closed) => {
                let message = format!("watch {}: the connection to xenstored is closed", self.at);
                Err(Error::new(Kind::Unanswered, Effect::None, message))
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("at", &self.at).finish_non_exhaustive()
    }
}
