//! The calls of a session that have no reply yet.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use super::request::{Request, TransactionId};
use crate::{Effect, Error, Kind};

/// The most calls that may be without a reply, abandoned ones among them.
pub const MAX_OPEN: usize = 1024;

/// The number of a call among the open calls of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(super) u32);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A call that the end of the session took away.
#[derive(Debug)]
#[non_exhaustive]
pub struct Lost {
    /// Its id.
    pub id: CallId,
    /// Why, and what is known of its effect.
    pub error: Error,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) within: Option<TransactionId>,
    pub(super) deadline: Option<Instant>,
    /// The message; taken when it is given out to be written.
    queued: Option<Bytes>,
    /// The reply is not awaited any more, but xenstored will still send it.
    pub(super) abandoned: bool,
}

impl Call {
    pub(super) fn effect(&self) -> Effect {
        if self.queued.is_some() { Effect::None } else { self.request.effect_unanswered(self.within) }
    }
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<u32, Call>,
    /// Those that wait to be sent, in order; some may have been abandoned.
    queue: VecDeque<u32>,
    last: u32,
}

impl Calls {
    /// The number that the next call gets: not 0, which events have, and none that is still open.
    fn next_id(&self) -> u32 {
        let mut id = self.last;
        loop {
            id = id.checked_add(1).unwrap_or(1);
            if !self.open.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn push(
        &mut self,
        request: Request,
        within: Option<TransactionId>,
        deadline: Option<Instant>,
    ) -> Result<CallId, Error> {
        if self.open.len() >= MAX_OPEN {
            let message =
                format!("{request}: not sent: {MAX_OPEN} requests wait for xenstored's answer already");
            return Err(Error::new(Kind::Limit, Effect::None, message));
        }
        let id = self.next_id();
        let queued = Some(request.encode(id, within)?);
        self.last = id;
        self.queue.push_back(id);
        self.open.insert(id, Call { request, within, deadline, queued, abandoned: false });
        Ok(CallId(id))
    }

    /// The next message to be written; from now on its effect is unknown.
    pub(super) fn transmit(&mut self) -> Option<Bytes> {
        while let Some(id) = self.queue.pop_front() {
            if let Some(message) = self.open.get_mut(&id).and_then(|call| call.queued.take()) {
                return Some(message);
            }
        }
        None
    }

    /// The call that a reply with this number ends; `None` when there is none, or it was not sent yet.
    pub(super) fn answer(&mut self, id: u32) -> Option<Call> {
        self.open.get(&id).filter(|call| call.queued.is_none())?;
        self.open.remove(&id)
    }

    /// Gives up a call. One that was sent stays, so that its reply is known when it comes.
    pub(super) fn abandon(&mut self, id: CallId) -> Option<(String, Effect)> {
        let call = self.open.get_mut(&id.0).filter(|call| !call.abandoned)?;
        let given_up = (call.request.to_string(), call.effect());
        if call.queued.is_some() {
            self.open.remove(&id.0);
            self.queue.retain(|&queued| queued != id.0);
        } else {
            call.abandoned = true;
            call.deadline = None;
        }
        Some(given_up)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().filter_map(|call| call.deadline).min()
    }

    pub(super) fn overdue(&self, now: Instant) -> Vec<CallId> {
        let is_overdue = |call: &Call| call.deadline.is_some_and(|deadline| deadline <= now);
        self.open.iter().filter(|(_, call)| is_overdue(call)).map(|(&id, _)| CallId(id)).collect()
    }

    /// Ends all calls for `why`.
    pub(super) fn lose_all(&mut self, kind: Kind, why: &str) -> Vec<Lost> {
        self.queue.clear();
        let lost = |(id, call): (u32, Call)| {
            let effect = call.effect();
            let then = match effect {
                Effect::None => "it had no effect",
                Effect::Unknown => "whether it was executed is not known",
            };
            let error = Error::new(kind, effect, format!("{}: {why}; {then}", call.request));
            (!call.abandoned).then_some(Lost { id: CallId(id), error })
        };
        std::mem::take(&mut self.open).into_iter().filter_map(lost).collect()
    }
}
