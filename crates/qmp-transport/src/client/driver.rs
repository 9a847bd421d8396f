//! The task between a session and a stream.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{debug, warn};

use crate::session::{CallId, Greeting, Lost, Output, Session};
use crate::{Error, Event};

/// What the client wants of its driver.
#[derive(Debug)]
pub(super) enum Order {
    /// Execute a command.
    Call {
        /// What the client calls it.
        token: u64,
        command: String,
        arguments: Map<String, Value>,
        deadline: Option<Instant>,
        reply: oneshot::Sender<Result<Value, Error>>,
    },
    /// The reply is not awaited any more.
    Abandon { token: u64 },
    /// Send a descriptor before the next message.
    Pass(OwnedFd),
}

#[derive(Debug)]
struct Waiting {
    token: u64,
    reply: oneshot::Sender<Result<Value, Error>>,
}

#[derive(Debug)]
pub(super) struct Driver {
    session: Session,
    peer: String,
    orders: mpsc::UnboundedReceiver<Order>,
    events: broadcast::Sender<Event>,
    /// The end of the negotiation, until it was told.
    ready: Option<oneshot::Sender<Result<Greeting, Error>>>,
    greeting: Option<Greeting>,
    waiting: HashMap<CallId, Waiting>,
    close_timeout: Duration,
    /// The socket once more, where it is one that carries descriptors.
    carrier: Option<UnixStream>,
    /// What is to be sent beside the next message.
    descriptors: VecDeque<OwnedFd>,
}

impl Driver {
    pub(super) fn new(
        session: Session,
        peer: String,
        orders: mpsc::UnboundedReceiver<Order>,
        events: broadcast::Sender<Event>,
        ready: oneshot::Sender<Result<Greeting, Error>>,
        close_timeout: Duration,
        carrier: Option<UnixStream>,
    ) -> Self {
        Self {
            session,
            peer,
            orders,
            events,
            ready: Some(ready),
            greeting: None,
            waiting: HashMap::new(),
            close_timeout,
            carrier,
            descriptors: VecDeque::new(),
        }
    }

    /// Runs until the session is closed, or the client is gone and no reply is owed any more.
    pub(super) async fn run<S: AsyncRead + AsyncWrite>(mut self, stream: S) {
        /// More than most replies have; a longer one comes in several reads.
        const READ: usize = 16 << 10;
        let stream = std::pin::pin!(stream);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = BytesMut::with_capacity(READ);
        let mut unwritten = Bytes::new();
        let mut unflushed = false;
        // Set when the client is gone: until when replies are awaited.
        let mut closing: Option<Instant> = None;
        loop {
            self.deliver();
            if self.session.is_closed() {
                break;
            }
            // A descriptor goes between two messages, before the one that was given after it.
            if unwritten.is_empty() && self.descriptors.is_empty() {
                unwritten = self.transmit();
            }
            let passes = unwritten.is_empty() && !self.descriptors.is_empty();
            if closing.is_some() && unwritten.is_empty() && self.session.unanswered() == 0 {
                break;
            }
            let wake = [self.session.poll_timeout(), closing].into_iter().flatten().min();
            tokio::select! {
                read = reader.read_buf(&mut input) => match read {
                    Ok(0) => self.session.handle_close(None),
                    Ok(_) => {
                        self.session.handle_input(now(), &input);
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
                        Err(error) => self.read_rest(&mut reader, &mut input, error).await,
                    }
                }
                passed = pass(self.carrier.as_ref(), self.descriptors.front()), if passes => match passed {
                    Ok(()) => drop(self.descriptors.pop_front()),
                    Err(error) => {
                        self.descriptors.clear();
                        self.read_rest(&mut reader, &mut input, error).await;
                    }
                },
                order = self.orders.recv(), if closing.is_none() => match order {
                    Some(order) => {
                        self.obey(order);
                        // Those that were given together are written together: each writing wakes QEMU.
                        while let Ok(order) = self.orders.try_recv() {
                            self.obey(order);
                        }
                    }
                    None => closing = Some(now() + self.close_timeout),
                },
                () = sleep_until(wake), if wake.is_some() => {
                    self.session.handle_timeout(now());
                    if closing.is_some_and(|deadline| deadline <= now()) {
                        debug!(peer = self.peer, owed = self.session.unanswered(), "closed with replies owed");
                        break;
                    }
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
    }

    /// The messages that are to be written next: several short ones. While a long one is written, the next ones can be given up.
    fn transmit(&mut self) -> Bytes {
        /// A socket takes so much at once.
        const TOGETHER: usize = 4 << 10;
        let mut all = Bytes::new();
        while all.len() < TOGETHER {
            match self.session.poll_transmit() {
                Some(next) if all.is_empty() => all = next,
                Some(next) => all = [all, next].concat().into(),
                None => break,
            }
        }
        all
    }

    /// After a write failed: takes the replies that had come by then, and the peer's end of the stream.
    async fn read_rest<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        input: &mut BytesMut,
        error: std::io::Error,
    ) {
        /// The peer's end is closed, so that its end of file is there already; this is for a peer that only
        /// stopped reading.
        const PATIENCE: Duration = Duration::from_millis(100);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Ok(count)) = tokio::time::timeout_at(deadline, reader.read_buf(input)).await {
            if count == 0 {
                break;
            }
            self.session.handle_input(now(), input);
            input.clear();
            if self.session.is_closed() {
                break;
            }
        }
        self.session.handle_close(Some(error));
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Pass(descriptor) => self.descriptors.push_back(descriptor),
            Order::Call { reply, .. } if reply.is_closed() => {}
            Order::Call { token, command, arguments, deadline, reply } => {
                match self.session.send(&command, &arguments, deadline) {
                    Ok(id) => {
                        self.waiting.insert(id, Waiting { token, reply });
                    }
                    Err(error) => tell(reply, Err(error)),
                }
            }
            Order::Abandon { token } => {
                // The reply may have been told in the meantime.
                let found = self.waiting.iter().find(|(_, waiting)| waiting.token == token);
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
                Output::Greeting(greeting) => self.greeting = Some(greeting),
                Output::Negotiated => {
                    if let (Some(ready), Some(greeting)) = (self.ready.take(), self.greeting.take()) {
                        tell(ready, Ok(greeting));
                    }
                }
                Output::Reply { id, result } => self.finish(id, result),
                Output::Event(event) => {
                    // An error means that there is no subscriber.
                    let _ = self.events.send(event);
                }
                Output::Dropped { why, what } => {
                    warn!(peer = self.peer, reason = ?why, "dropped: {what}");
                }
                Output::Closed { cause, lost } => {
                    for Lost { id, error } in lost {
                        self.finish(id, Err(error));
                    }
                    match self.ready.take() {
                        Some(ready) => tell(ready, Err(cause)),
                        None => debug!(peer = self.peer, "closed: {cause}"),
                    }
                }
            }
        }
    }

    fn finish(&mut self, id: CallId, result: Result<Value, Error>) {
        if let Some(waiting) = self.waiting.remove(&id) {
            tell(waiting.reply, result);
        }
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

/// Sends a descriptor, beside a byte that means nothing between two messages. Cancel safe.
async fn pass(carrier: Option<&UnixStream>, descriptor: Option<&OwnedFd>) -> std::io::Result<()> {
    let (Some(carrier), Some(descriptor)) = (carrier, descriptor) else { return Ok(()) };
    let descriptors = [descriptor.as_fd()];
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = sendmsg(carrier, &[IoSlice::new(b"\n")], &mut beside, SendFlags::NOSIGNAL)?;
        if sent == 0 { Err(std::io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    };
    carrier.async_io(Interest::WRITABLE, send).await
}

/// tokio's clock, which tests may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(wake: Option<Instant>) {
    if let Some(wake) = wake {
        tokio::time::sleep_until(wake.into()).await;
    }
}
