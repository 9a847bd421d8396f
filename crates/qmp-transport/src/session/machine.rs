//! The state machine.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::trace;

use super::call::{Answered, Calls};
use super::frame::{FrameError, Framer};
use super::message::{Message, Refusal, one_line};
use super::{CallId, Config, Greeting, Lost};
use crate::{Effect, Error, Event, Kind};

/// What a [`Session`] has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// QEMU greeted; capabilities are being negotiated.
    Greeting(Greeting),
    /// Commands are executed from now on; those sent before go out now.
    Negotiated,
    /// The end of a call.
    Reply {
        /// The call.
        id: CallId,
        /// QEMU's `return`, or why there is none.
        result: Result<Value, Error>,
    },
    /// QEMU sent an event.
    Event(Event),
    /// A message was dropped. To be logged; nothing else is to be done.
    Dropped {
        /// Why.
        why: DropReason,
        /// Its id, or an excerpt, on one line.
        what: String,
    },
    /// The session is over. Comes once, as the last output.
    Closed {
        /// Why.
        cause: Error,
        /// The calls that had no reply.
        lost: Vec<Lost>,
    },
}

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// A reply to a command of a former client of this monitor: QEMU sends it to the next one.
    Stale,
    /// A reply with an id of this session that no open call has.
    UnknownCall,
    /// A reply to a call that timed out or was abandoned.
    Abandoned,
    /// A reply without an id. An error without one means that QEMU could not read a command as JSON: it goes to the
    /// oldest call that was sent, because QEMU answers in order; with no such call it is dropped.
    NoId,
    /// An object that QMP does not have, or not at this point.
    Unrecognised,
}

#[derive(Debug)]
enum State {
    Greeting { deadline: Instant, saw_other: bool },
    Negotiating { deadline: Instant },
    Ready,
    Closed,
}

/// One connection to one QMP monitor.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    framer: Framer,
    calls: Calls,
    /// `qmp_capabilities`, until it is given out.
    negotiation: Option<Bytes>,
    outputs: VecDeque<Output>,
}

#[derive(Serialize)]
struct Request<'a> {
    execute: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a Map<String, Value>>,
    id: String,
}

impl Session {
    /// A session with a peer to which a connection was made at `now`.
    pub fn new(config: Config, now: Instant) -> Self {
        let deadline = now + config.greeting_timeout;
        Self {
            framer: Framer::new(config.max_message),
            config,
            state: State::Greeting { deadline, saw_other: false },
            calls: Calls::default(),
            negotiation: None,
            outputs: VecDeque::new(),
        }
    }

    /// Starts a call. It may be sent at any time; before the negotiation it waits.
    ///
    /// # Errors
    /// The session is closed ([`Kind::Disconnected`]), or the message is longer than the limit
    /// ([`Kind::TooLarge`]). Neither has an effect.
    pub fn send(
        &mut self,
        command: &str,
        arguments: &Map<String, Value>,
        deadline: Option<Instant>,
    ) -> Result<CallId, Error> {
        if self.is_closed() {
            let message = format!("{command}: not sent: the connection to {} is closed", self.config.peer);
            return Err(Error::new(Kind::Disconnected, Effect::None, message));
        }
        let message = self.message(command, arguments, self.calls.next_id());
        if message.len() > self.config.max_message {
            let (length, limit) = (message.len(), self.config.max_message);
            let message =
                format!("{command}: not sent: the message has {length} bytes; the limit is {limit}");
            return Err(Error::new(Kind::TooLarge, Effect::None, message));
        }
        Ok(self.calls.push(command.to_owned(), message, deadline))
    }

    /// Gives up a call: there will be no [`Output::Reply`] for it. The command is not sent if it was not yet;
    /// otherwise QEMU may execute it, and its reply will be dropped.
    pub fn abandon(&mut self, id: CallId) {
        self.calls.abandon(id);
    }

    /// Takes what the peer sent.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.is_closed() {
            match self.framer.next(&mut rest) {
                Ok(None) => break,
                Ok(Some(message)) => self.handle_message(now, &message),
                Err(error) => self.handle_frame_error(error),
            }
        }
    }

    /// Takes note that the peer closed the connection, or that it broke with `error`.
    pub fn handle_close(&mut self, error: Option<std::io::Error>) {
        let peer = &self.config.peer;
        let when = match self.state {
            _ if self.framer.is_partial() => "in the middle of a message",
            State::Greeting { .. } => "without a greeting",
            State::Negotiating { .. } => "before it answered qmp_capabilities",
            State::Ready | State::Closed => "",
        };
        let why = match (&error, when) {
            (Some(_), _) => format!("the connection to {peer} broke"),
            (None, "") => format!("{peer} closed the connection"),
            (None, when) => format!("{peer} closed the connection {when}"),
        };
        self.close(Kind::Disconnected, &why, error.map(Into::into));
    }

    /// Ends the session on our side.
    pub fn close_locally(&mut self) {
        let why = format!("the connection to {} was closed by this side", self.config.peer);
        self.close(Kind::Disconnected, &why, None);
    }

    /// When [`Session::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let handshake = match self.state {
            State::Greeting { deadline, .. } | State::Negotiating { deadline } => Some(deadline),
            State::Ready | State::Closed => None,
        };
        [handshake, self.calls.next_deadline()].into_iter().flatten().min()
    }

    /// Ends what is overdue at `now`: the session, while it is not negotiated; calls.
    pub fn handle_timeout(&mut self, now: Instant) {
        for id in self.calls.overdue(now) {
            let Some((command, effect)) = self.calls.abandon(id) else { continue };
            let peer = &self.config.peer;
            let message = match effect {
                Effect::None => format!("{command}: {peer} took no command in time; it was not sent"),
                _ => format!("{command}: no reply from {peer} in time; it may still be executed"),
            };
            let result = Err(Error::new(Kind::TimedOut, effect, message));
            self.outputs.push_back(Output::Reply { id, result });
        }
        let (peer, patience) = (&self.config.peer, self.config.greeting_timeout);
        match self.state {
            State::Greeting { deadline, saw_other } if deadline <= now => {
                if saw_other || self.framer.is_partial() {
                    let why = format!("{peer} sent something, but no QMP greeting within {patience:?}");
                    self.close(Kind::Protocol, &why, None);
                } else {
                    let why = format!(
                        "{peer} accepted the connection, but sent no greeting within {patience:?}: \
                         another client holds the monitor (each serves one), or it is no QMP monitor"
                    );
                    self.close(Kind::Busy, &why, None);
                }
            }
            State::Negotiating { deadline } if deadline <= now => {
                let why = format!(
                    "{peer} did not answer qmp_capabilities within {patience:?}: \
                     it may still execute a command of a former client"
                );
                self.close(Kind::TimedOut, &why, None);
            }
            _ => {}
        }
    }

    /// The next message to be written, whole. Once it is given out, its command counts as sent.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let message = match self.state {
            State::Negotiating { .. } => self.negotiation.take(),
            State::Ready => self.calls.transmit(),
            State::Greeting { .. } | State::Closed => None,
        }?;
        trace!(peer = self.config.peer, "-> {}", String::from_utf8_lossy(&message).trim_end());
        Some(message)
    }

    /// The next thing to be told.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many replies QEMU still owes: those of abandoned calls too.
    pub fn unanswered(&self) -> usize {
        self.calls.unanswered()
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn message(&self, command: &str, arguments: &Map<String, Value>, id: CallId) -> Bytes {
        let arguments = (!arguments.is_empty()).then_some(arguments);
        let request = Request { execute: command, arguments, id: self.wire_id(id) };
        let mut bytes = serde_json::to_vec(&request).expect("strings and JSON values serialise");
        bytes.push(b'\n');
        bytes.into()
    }

    fn wire_id(&self, id: CallId) -> String {
        format!("{:016x}.{id}", self.config.nonce)
    }

    /// The number of the call in `id`, when it is of this session.
    fn own_id(&self, id: &Value) -> Option<u64> {
        let (nonce, number) = id.as_str()?.split_once('.')?;
        let number = number.parse().ok()?;
        // Compared as written, so that only what we wrote is ours ("+1" parses too).
        (nonce.len() == 16 && *id == *self.wire_id(CallId(number))).then_some(number)
    }

    fn handle_message(&mut self, now: Instant, bytes: &[u8]) {
        trace!(peer = self.config.peer, "<- {}", String::from_utf8_lossy(bytes));
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => {
                let text = one_line(&String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
                let why = format!("{} sent what is not JSON: {text}", self.config.peer);
                return self.close(Kind::Protocol, &why, Some(error.into()));
            }
        };
        match (&mut self.state, message) {
            (State::Greeting { .. }, Message::Greeting(greeting)) => {
                let deadline = now + self.config.greeting_timeout;
                self.state = State::Negotiating { deadline };
                self.negotiation = Some(self.message("qmp_capabilities", &Map::new(), CallId(0)));
                self.outputs.push_back(Output::Greeting(greeting));
            }
            (State::Greeting { saw_other, .. }, Message::Reply { id, .. }) => {
                *saw_other = true;
                self.drop_reply(DropReason::Stale, id.as_ref());
            }
            (State::Greeting { .. }, _) => {
                let text = one_line(&String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
                let why = format!("{} does not greet as a QMP monitor does: {text}", self.config.peer);
                self.close(Kind::Protocol, &why, None);
            }
            (State::Negotiating { .. }, Message::Reply { id, outcome }) => self.negotiated(id, outcome),
            (State::Ready, Message::Reply { id: Some(id), outcome }) => self.reply(&id, outcome),
            (State::Ready, Message::Reply { id: None, outcome }) => self.reply_without_id(outcome),
            (_, Message::Event(event)) => self.outputs.push_back(Output::Event(event)),
            (_, Message::Greeting(_) | Message::Unrecognised) => {
                let what = one_line(&String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
                self.outputs.push_back(Output::Dropped { why: DropReason::Unrecognised, what });
            }
            (State::Closed, _) => {}
        }
    }

    fn negotiated(&mut self, id: Option<Value>, outcome: Result<Value, Refusal>) {
        // The reply of a former client's last command comes here, after the greeting and before ours. It may have no
        // id, so that an error without one is not taken for ours either: at worst the negotiation times out.
        if id.as_ref().and_then(|id| self.own_id(id)) != Some(0) || self.negotiation.is_some() {
            return self.drop_reply(DropReason::Stale, id.as_ref());
        }
        match outcome {
            Ok(_) => {
                self.state = State::Ready;
                self.outputs.push_back(Output::Negotiated);
            }
            Err(refusal) => {
                let why =
                    format!("{} refused qmp_capabilities: {}", self.config.peer, one_line(&refusal.desc));
                self.close(Kind::Protocol, &why, None);
            }
        }
    }

    fn reply(&mut self, id: &Value, outcome: Result<Value, Refusal>) {
        let Some(number) = self.own_id(id) else {
            return self.drop_reply(DropReason::Stale, Some(id));
        };
        match self.calls.answer(number) {
            Answered::Call(call) => {
                let result = outcome.map_err(|refusal| rejected(&call.command, &refusal));
                self.outputs.push_back(Output::Reply { id: CallId(number), result });
            }
            Answered::Abandoned => self.drop_reply(DropReason::Abandoned, Some(id)),
            Answered::Unknown => self.drop_reply(DropReason::UnknownCall, Some(id)),
        }
    }

    fn reply_without_id(&mut self, outcome: Result<Value, Refusal>) {
        let (Err(refusal), Some((oldest, alone))) = (outcome, self.calls.oldest_sent()) else {
            return self.drop_reply(DropReason::NoId, None);
        };
        match self.calls.answer(oldest) {
            Answered::Call(call) => {
                // One unreadable message may give several errors, so that with several calls it may be another's.
                let effect = if alone { Effect::None } else { Effect::Unknown };
                let error = rejected(&call.command, &refusal).with_effect(effect);
                self.outputs.push_back(Output::Reply { id: CallId(oldest), result: Err(error) });
            }
            Answered::Abandoned => self.drop_reply(DropReason::Abandoned, None),
            Answered::Unknown => self.drop_reply(DropReason::NoId, None),
        }
    }

    fn drop_reply(&mut self, why: DropReason, id: Option<&Value>) {
        let what =
            id.map_or_else(|| "a reply without id".to_owned(), |id| one_line(&format!("reply to {id}")));
        self.outputs.push_back(Output::Dropped { why, what });
    }

    fn handle_frame_error(&mut self, error: FrameError) {
        let peer = &self.config.peer;
        match error {
            FrameError::TooLarge => {
                let why = format!("{peer} sent a message of more than {} bytes", self.config.max_message);
                self.close(Kind::TooLarge, &why, None);
            }
            FrameError::TooDeep => {
                let why = format!("{peer} sent a message that is nested too deeply");
                self.close(Kind::Protocol, &why, None);
            }
            FrameError::Garbage(byte) => {
                let byte = byte.escape_ascii();
                let why =
                    format!("{peer} does not speak QMP: a message begins with '{byte}' instead of '{{'");
                self.close(Kind::Protocol, &why, None);
            }
        }
    }

    fn close(&mut self, kind: Kind, why: &str, source: Option<Box<dyn std::error::Error + Send + Sync>>) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.framer = Framer::new(0);
        let lost = self.calls.lose_all(kind, why);
        let mut cause = Error::new(kind, Effect::None, why);
        if let Some(source) = source {
            cause = cause.with_source(source);
        }
        self.outputs.push_back(Output::Closed { cause, lost });
    }
}

fn rejected(command: &str, refusal: &Refusal) -> Error {
    Error::rejected(command, one_line(&refusal.class), &one_line(&refusal.desc))
}
