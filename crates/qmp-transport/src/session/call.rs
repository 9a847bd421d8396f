//! The calls of a session that have no reply yet.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::{Effect, Error, Kind};

/// The number of a call in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(super) u64);

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
    /// Why; its effect is [`Effect::None`] when it was never given out to be written, else [`Effect::Unknown`].
    pub error: Error,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) command: String,
    pub(super) deadline: Option<Instant>,
    /// The message; taken when it is given out to be written.
    queued: Option<Bytes>,
    /// The reply is not awaited any more, but QEMU will still send it.
    abandoned: bool,
}

impl Call {
    pub(super) fn effect(&self) -> Effect {
        if self.queued.is_some() { Effect::None } else { Effect::Unknown }
    }
}

/// What a reply with a certain id means.
#[derive(Debug)]
pub(super) enum Answered {
    Call(Call),
    Abandoned,
    /// No such call, or not sent yet.
    Unknown,
}

/// Calls by number, thus in the order in which they are sent.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<u64, Call>,
    last: u64,
    /// No call up to this one waits to be sent.
    sent_up_to: u64,
}

impl Calls {
    /// The number that the next call gets. 0 is that of `qmp_capabilities`.
    pub(super) fn next_id(&self) -> CallId {
        CallId(self.last + 1)
    }

    pub(super) fn push(&mut self, command: String, message: Bytes, deadline: Option<Instant>) -> CallId {
        self.last += 1;
        self.open.insert(self.last, Call { command, deadline, queued: Some(message), abandoned: false });
        CallId(self.last)
    }

    /// The next message to be written; from now on its effect is unknown.
    pub(super) fn transmit(&mut self) -> Option<Bytes> {
        let (&id, call) = self.open.range_mut(self.sent_up_to + 1..).next()?;
        self.sent_up_to = id;
        call.queued.take()
    }

    pub(super) fn answer(&mut self, id: u64) -> Answered {
        match self.open.get(&id) {
            Some(call) if call.queued.is_none() => {}
            _ => return Answered::Unknown,
        }
        match self.open.remove(&id) {
            Some(call) if !call.abandoned => Answered::Call(call),
            Some(_) => Answered::Abandoned,
            None => Answered::Unknown,
        }
    }

    /// The oldest call that was sent, and whether it is the only one.
    pub(super) fn oldest_sent(&self) -> Option<(u64, bool)> {
        let mut sent = self.open.range(..=self.sent_up_to);
        let (&oldest, _) = sent.next()?;
        Some((oldest, sent.next().is_none()))
    }

    /// Gives up a call. One that was sent stays, so that its reply is known when it comes.
    pub(super) fn abandon(&mut self, id: CallId) -> Option<(String, Effect)> {
        let call = self.open.get_mut(&id.0).filter(|call| !call.abandoned)?;
        let given_up = (call.command.clone(), call.effect());
        if call.queued.is_some() {
            self.open.remove(&id.0);
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

    /// How many replies QEMU owes, abandoned calls among them.
    pub(super) fn unanswered(&self) -> usize {
        self.open.range(..=self.sent_up_to).count()
    }

    /// Ends all calls for `why`.
    pub(super) fn lose_all(&mut self, kind: Kind, why: &str) -> Vec<Lost> {
        let lost = |(id, call): (u64, Call)| {
            let effect = call.effect();
            let then = match effect {
                Effect::None => "it was not sent",
                _ => "whether it was executed is not known",
            };
            let error = Error::new(kind, effect, format!("{}: {why}; {then}", call.command));
            (!call.abandoned).then_some(Lost { id: CallId(id), error })
        };
        std::mem::take(&mut self.open).into_iter().filter_map(lost).collect()
    }
}
