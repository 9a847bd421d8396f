//! The task between a session and a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{debug, warn};

use crate::session::{CallId, Lost, Output, Reply, Request, Session, TransactionId};
use crate::{Error, Watchpoint};

/// What the client wants of its driver.
#[derive(Debug)]
pub(super) enum Order {
    /// Send a request.
    Call {
        /// What the client calls it.
        number: u64,
        request: Request,
        within: Option<TransactionId>,
        deadline: Option<Instant>,
        /// `None` of what tidies up: it is not awaited, and is sent all the same.
        reply: Option<oneshot::Sender<Result<Reply, Error>>>,
    },
    /// The reply is not awaited any more.
    Abandon { number: u64 },
}

/// Where the events of each watch go, by its token.
#[derive(Debug, Clone, Default)]
pub(super) struct Watches(Arc<Mutex<HashMap<String, broadcast::Sender<Watchpoint>>>>);

impl Watches {
    pub(super) fn add(&self, token: &str, capacity: usize) -> broadcast::Receiver<Watchpoint> {
        let (sender, receiver) = broadcast::channel(capacity.max(1));
        self.lock().insert(token.to_owned(), sender);
        receiver
    }

    pub(super) fn remove(&self, token: &str) {
        self.lock().remove(token);
    }

    /// Whether there is such a watch.
    fn tell(&self, token: &str, at: Watchpoint) -> bool {
        // An error means that the watch is being dropped.
        self.lock().get(token).map(|sender| sender.send(at)).is_some()
    }

    /// Ends all: each watch hears of it after the changes that it has not taken yet.
    fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, broadcast::Sender<Watchpoint>>> {
        // The map is whole after each of the above, wherever a thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    reply: oneshot::Sender<Result<Reply, Error>>,
}

#[derive(Debug)]
pub(super) struct Driver {
    session: Session,
    peer: String,
    orders: mpsc::UnboundedReceiver<Order>,
    watches: Watches,
    waiting: HashMap<CallId, Waiting>,
}

impl Driver {
    pub(super) fn new(peer: String, orders: mpsc::UnboundedReceiver<Order>, watches: Watches) -> Self {
        Self { session: Session::new(&peer), peer, orders, watches, waiting: HashMap::new() }
    }

    /// Runs until the session is closed or the client is gone: xenstored then ends its watches and transactions.
    pub(super) async fn run<S: AsyncRead + AsyncWrite>(mut self, stream: S) {
        /// Several of the longest messages.
        const READ: usize = 16 << 10;
        let stream = std::pin::pin!(stream);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = BytesMut::with_capacity(READ);
        let mut unwritten = Bytes::new();
        let mut unflushed = false;
        loop {
            self.deliver();
            if self.session.is_closed() {
                break;
            }
            if unwritten.is_empty() {
                unwritten = self.session.poll_transmit().unwrap_or_default();
            }
            let wake = self.session.poll_timeout();
            tokio::select! {
                read = reader.read_buf(&mut input) => match read {
                    Ok(0) => self.session.handle_close(None),
                    Ok(_) => {
                        self.session.handle_input(&input);
                        input.clear();
                        input.reserve(READ);
                    }
                    Err(error) => self.session.handle_close(Some(error)),
                },
                written = write_or_flush(&mut writer, &unwritten), if unflushed || !unwritten.is_empty() => {
                    match written {
                        Ok(0) => unflushed = false,
                        Ok(count) => {
                            unwritten.advance(count);
                            unflushed = true;
                        }
                        Err(error) => self.session.handle_close(Some(error)),
                    }
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => break,
                },
                () = sleep_until(wake), if wake.is_some() => {
                    self.session.handle_timeout(tokio::time::Instant::now().into_std());
                }
            }
        }
        self.session.close_locally();
        self.deliver();
        // Orders that came too late: `send` refuses them, each with an error that says so.
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order);
        }
        self.watches.close();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Call { reply: Some(reply), .. } if reply.is_closed() => {}
            Order::Call { number, request, within, deadline, reply } => {
                match (self.session.send(request, within, deadline), reply) {
                    (Ok(id), Some(reply)) => {
                        self.waiting.insert(id, Waiting { number, reply });
                    }
                    (Err(error), Some(reply)) => tell(reply, Err(error)),
                    (Err(error), None) => debug!(peer = self.peer, "not tidied up: {error}"),
                    (Ok(_), None) => {}
                }
            }
            Order::Abandon { number } => {
                // The reply may have been told in the meantime.
                let found = self.waiting.iter().find(|(_, waiting)| waiting.number == number);
                if let Some((&id, _)) = found {
                    self.waiting.remove(&id);
                    self.session.abandon(id);
                }
            }
        }
    }

    /// Hands on everything that the session has to say.
    fn deliver(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Reply { id, result } => self.finish(id, result),
                Output::Event { at, token } => {
                    // After a watch has ended, its last events still come.
                    if !self.watches.tell(&token, at) {
                        debug!(peer = self.peer, "dropped an event of no watch");
                    }
                }
                Output::Dropped { why } => warn!(peer = self.peer, "dropped: {why}"),
                Output::Closed { cause, lost } => {
                    for Lost { id, error } in lost {
                        self.finish(id, Err(error));
                    }
                    debug!(peer = self.peer, "closed: {cause}");
                }
            }
        }
    }

    fn finish(&mut self, id: CallId, result: Result<Reply, Error>) {
        if let Some(waiting) = self.waiting.remove(&id) {
            tell(waiting.reply, result);
        }
    }
}

impl Drop for Driver {
    /// The task may be aborted at any point; watches must not wait for ever then.
    fn drop(&mut self) {
        self.watches.close();
    }
}

/// Answers a caller that may be gone in the meantime.
fn tell<T>(caller: oneshot::Sender<T>, what: T) {
    let _ = caller.send(what);
}

/// Writes some of `bytes` and gives how many; with none, flushes. Each is cancel safe alone.
async fn write_or_flush<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> std::io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

async fn sleep_until(wake: Option<Instant>) {
    if let Some(wake) = wake {
        tokio::time::sleep_until(wake.into()).await;
    }
}
