//! The state machine.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::call::{Call, Calls};
use super::frame::{Framer, TooLong};
use super::reply::{Reply, error_code, watch_event};
use super::request::{Request, TransactionId};
use super::wire::{Header, MAX_REPLY, Type};
use super::{CallId, Lost};
use crate::{Effect, Error, Kind, Watchpoint};

/// What a [`Session`] has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// The end of a call.
    Reply {
        /// The call.
        id: CallId,
        /// xenstored's answer, or why there is none.
        result: Result<Reply, Error>,
    },
    /// A watch fired.
    Event {
        /// Where something changed.
        at: Watchpoint,
        /// The token of the watch; any text.
        token: String,
    },
    /// A message was dropped. To be logged; nothing else is to be done.
    Dropped {
        /// Why, on one line.
        why: String,
    },
    /// The session is over. Comes once, as the last output.
    Closed {
        /// Why.
        cause: Error,
        /// The calls that had no reply.
        lost: Vec<Lost>,
    },
}

/// One connection to xenstored.
#[derive(Debug)]
pub struct Session {
    peer: String,
    framer: Framer,
    calls: Calls,
    outputs: VecDeque<Output>,
    closed: bool,
}

impl Session {
    /// A session; `peer` is what messages call the other side: the path of its socket.
    pub fn new(peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            framer: Framer::default(),
            calls: Calls::default(),
            outputs: VecDeque::new(),
            closed: false,
        }
    }

    /// Starts a call, inside a transaction or not.
    ///
    /// # Errors
    /// All without effect: the session is closed ([`Kind::Unanswered`]), the message is too long or too many calls are
    /// open ([`Kind::Limit`]), or it cannot be written on the wire ([`Kind::Rejected`]).
    pub fn send(
        &mut self,
        request: Request,
        within: Option<TransactionId>,
        deadline: Option<Instant>,
    ) -> Result<CallId, Error> {
        if self.closed {
            let message = format!("{request}: not sent: the connection to {} is closed", self.peer);
            return Err(Error::new(Kind::Unanswered, Effect::None, message));
        }
        self.calls.push(request, within, deadline)
    }

    /// Gives up a call: there will be no [`Output::Reply`] for it. It is not sent if it was not yet; otherwise
    /// xenstored may execute it, and its reply will be dropped.
    pub fn abandon(&mut self, id: CallId) {
        self.calls.abandon(id);
    }

    /// Takes what the peer sent.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.closed {
            match self.framer.next(&mut rest) {
                Ok(None) => break,
                Ok(Some((header, payload))) => self.handle_message(header, &payload),
                Err(TooLong(length)) => {
                    let why = format!("a message of {length} bytes; the limit is {MAX_REPLY}");
                    self.handle_nonsense(&why);
                }
            }
        }
    }

    /// Takes note that the peer closed the connection, or that it broke with `error`.
    pub fn handle_close(&mut self, error: Option<std::io::Error>) {
        let when = if self.framer.is_partial() { " in the middle of a message" } else { "" };
        let why = match &error {
            Some(_) => format!("the connection to {} broke{when}", self.peer),
            None => format!("{} closed the connection{when}", self.peer),
        };
        self.close(Kind::Unanswered, &why, error);
    }

    /// Ends the session from our side.
    pub fn close_locally(&mut self) {
        self.close(Kind::Unanswered, &format!("the connection to {} was given up", self.peer), None);
    }

    /// When [`Session::handle_timeout`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.calls.next_deadline()
    }

    /// Ends the calls whose deadline has passed at `now`. The session goes on: their late replies are dropped.
    pub fn handle_timeout(&mut self, now: Instant) {
        for id in self.calls.overdue(now) {
            let Some((request, effect)) = self.calls.abandon(id) else { continue };
            let then = match effect {
                Effect::None => "it had no effect",
                Effect::Unknown => "it may still be executed",
            };
            let message = format!(
                "{request}: {} did not answer in time; {then}; see whether xenstored still runs",
                self.peer
            );
            let result = Err(Error::new(Kind::Unanswered, effect, message));
            self.outputs.push_back(Output::Reply { id, result });
        }
    }

    /// The next message to be written, whole. Once it is given out, its request counts as sent.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.calls.transmit()
    }

    /// The next thing to be told.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn handle_message(&mut self, header: Header, payload: &[u8]) {
        if header.kind == Type::WatchEvent as u32 {
            return match watch_event(payload) {
                Ok((at, token)) => self.outputs.push_back(Output::Event { at, token: token.to_owned() }),
                Err(why) => self.drop_message(format!("an event with {why}")),
            };
        }
        let Some(call) = self.calls.answer(header.id) else {
            return self.drop_message(format!("a reply to request {}, which is not open", header.id));
        };
        let transaction = call.within.map_or(0, |transaction| transaction.0);
        if header.transaction != transaction {
            let why = format!("a reply of transaction {} to '{}'", header.transaction, call.request);
            return self.handle_bad_reply(header.id, &call, &why);
        }
        let result = if header.kind == Type::Error as u32 {
            error_code(payload).map(|code| Err(refused(&call, code)))
        } else if header.kind == call.request.kind() as u32 {
            Reply::decode(&call.request, payload).map(Ok)
        } else {
            Err("another type")
        };
        match result {
            Ok(result) if call.abandoned => self.handle_late(&call.request, result),
            Ok(result) => self.outputs.push_back(Output::Reply { id: CallId(header.id), result }),
            Err(what) => {
                let why = format!("a reply to '{}' with {what}", call.request);
                self.handle_bad_reply(header.id, &call, &why);
            }
        }
    }

    /// A reply that is not awaited any more.
    fn handle_late(&mut self, request: &Request, result: Result<Reply, Error>) {
        if let Ok(Reply::Begun(transaction)) = result {
            // Its number is known only now, and no caller will end it. Its own reply is of no interest.
            if let Ok(end) = self.calls.push(Request::End { commit: false }, Some(transaction), None) {
                self.outputs.push_back(Output::Dropped {
                    why: format!("'{request}' came late: call {end} discards it"),
                });
            }
            return;
        }
        self.drop_message(format!("a late reply to '{request}'"));
    }

    /// A reply that does not fit its call. The call is over, and so is the session.
    fn handle_bad_reply(&mut self, id: u32, call: &Call, why: &str) {
        if !call.abandoned {
            // xenstored did answer, so that it may have executed it.
            let effect = call.effect();
            let error =
                Error::new(Kind::Protocol, effect, format!("{}: {} sent {why}", call.request, self.peer));
            self.outputs.push_back(Output::Reply { id: CallId(id), result: Err(error) });
        }
        self.handle_nonsense(why);
    }

    fn handle_nonsense(&mut self, what: &str) {
        self.close(
            Kind::Protocol,
            &format!("{} does not speak xenstore's protocol: {what}", self.peer),
            None,
        );
    }

    fn drop_message(&mut self, why: String) {
        self.outputs.push_back(Output::Dropped { why });
    }

    fn close(&mut self, kind: Kind, why: &str, source: Option<std::io::Error>) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.framer = Framer::default();
        let lost = self.calls.lose_all(kind, why);
        let mut cause = Error::new(kind, Effect::None, why);
        if let Some(source) = source {
            cause = cause.with_source(source);
        }
        self.outputs.push_back(Output::Closed { cause, lost });
    }
}

/// An error is xenstored's word that it did nothing; but after `EIO` or `ENOMEM` it may have done a part.
fn refused(call: &Call, code: &str) -> Error {
    let effect = if matches!(code, "EIO" | "ENOMEM") { call.effect() } else { Effect::None };
    // Of a transaction that is no more, not of a node.
    if code == "ENOENT" && call.request == (Request::End { commit: true }) {
        let message = format!("{}: xenstored does not know it (any more)", call.request);
        return Error::new(Kind::Rejected, effect, message);
    }
    Error::refused(&call.request.to_string(), code, effect)
}
