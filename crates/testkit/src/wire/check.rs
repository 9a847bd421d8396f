//! Properties of the QMP session under any input, for property tests and fuzzing alike. They panic when one is broken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Map;
use xlsnap_qmp_transport::session::{CallId, Config, DropReason, Output, Session};
use xlsnap_qmp_transport::{Effect, Kind};

use super::GREETING;

const NONCE: u64 = 7;
/// The unit of the model's time.
const TICK: Duration = Duration::from_secs(1);
/// In ticks.
const GREETING_TIMEOUT: u64 = 5;
const MAX_MESSAGE: usize = 4096;

fn session(now: Instant) -> Session {
    let mut config = Config::new("peer", NONCE);
    config.greeting_timeout = TICK * 5;
    config.max_message = MAX_MESSAGE;
    Session::new(config, now)
}

fn reply(id: u64, members: &str) -> String {
    format!("{{{members}, \"id\": \"{NONCE:016x}.{id}\"}}\r\n")
}

/// `data` as what a peer sends, to a new session or to one with two calls in flight; its first byte tells which, and
/// into pieces of which size it is cut. The session neither panics nor says anything else for another cut, and it
/// ends no call twice.
pub fn any_bytes(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let play = |size: usize| {
        let now = Instant::now();
        let mut session = session(now);
        if first & 1 == 1 {
            session.handle_input(now, GREETING.as_bytes());
            session.poll_transmit().expect("it negotiates");
            session.handle_input(now, reply(0, "\"return\": {}").as_bytes());
            for command in ["a", "b"] {
                session.send(command, &Map::new(), None).expect("it is open");
                session.poll_transmit().expect("it is ready");
            }
        }
        for piece in data.chunks(size) {
            session.handle_input(now, piece);
        }
        session.handle_close(None);
        let outputs: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
        let mut ended: Vec<CallId> = Vec::new();
        for output in &outputs {
            match output {
                Output::Reply { id, .. } => ended.push(*id),
                Output::Closed { lost, .. } => ended.extend(lost.iter().map(|lost| lost.id)),
                _ => {}
            }
        }
        let count = ended.len();
        ended.sort_unstable();
        ended.dedup();
        assert_eq!(ended.len(), count, "a call ended twice");
        assert_eq!(count, if first & 1 == 1 { 2 } else { 0 }, "every call ended");
        assert!(matches!(outputs.last(), Some(Output::Closed { .. })), "the end is told, last");
        format!("{outputs:?}")
    };
    let size = usize::from(first >> 1).max(1);
    assert_eq!(play(size), play(usize::MAX), "cut into pieces of {size}");
}

/// What a session says, as far as the model foretells it.
#[derive(Debug, PartialEq)]
enum Said {
    Greeting,
    Negotiated,
    Returned(u64),
    Failed(u64, Kind, Effect),
    Event,
    Dropped(DropReason),
    Closed(Kind, Vec<(u64, Effect)>),
}

fn number(id: CallId) -> u64 {
    id.to_string().parse().expect("an id is a number")
}

fn said(output: Output) -> Said {
    match output {
        Output::Greeting(_) => Said::Greeting,
        Output::Negotiated => Said::Negotiated,
        Output::Reply { id, result: Ok(_) } => Said::Returned(number(id)),
        Output::Reply { id, result: Err(error) } => Said::Failed(number(id), error.kind(), error.effect()),
        Output::Event(_) => Said::Event,
        Output::Dropped { why, .. } => Said::Dropped(why),
        Output::Closed { cause, lost } => {
            let lost = lost.into_iter().map(|lost| (number(lost.id), lost.error.effect()));
            Said::Closed(cause.kind(), lost.collect())
        }
        other => panic!("the model does not know {other:?}"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Greeting { until: u64, saw_other: bool },
    Negotiating { until: u64, asked: bool },
    Ready,
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    sent: bool,
    abandoned: bool,
    deadline: Option<u64>,
}

impl Call {
    fn effect(self) -> Effect {
        if self.sent { Effect::Unknown } else { Effect::None }
    }
}

/// The session's promises, written as plainly as possible.
#[derive(Debug)]
struct Model {
    phase: Phase,
    now: u64,
    calls: BTreeMap<u64, Call>,
    last: u64,
}

impl Model {
    fn close(&mut self, kind: Kind) -> Vec<Said> {
        if self.phase == Phase::Closed {
            return vec![];
        }
        self.phase = Phase::Closed;
        let calls = std::mem::take(&mut self.calls).into_iter();
        let lost = calls.filter(|(_, call)| !call.abandoned).map(|(id, call)| (id, call.effect()));
        vec![Said::Closed(kind, lost.collect())]
    }

    fn send(&mut self, deadline: Option<u64>) {
        self.last += 1;
        self.calls.insert(self.last, Call { sent: false, abandoned: false, deadline });
    }

    /// The id of the message that goes out.
    fn transmit(&mut self) -> Option<u64> {
        match &mut self.phase {
            Phase::Negotiating { asked, .. } if !*asked => {
                *asked = true;
                Some(0)
            }
            Phase::Ready => {
                let (&id, call) = self.calls.iter_mut().find(|(_, call)| !call.sent)?;
                call.sent = true;
                Some(id)
            }
            _ => None,
        }
    }

    fn abandon(&mut self, id: u64) {
        match self.calls.get_mut(&id) {
            Some(call) if call.sent => (call.abandoned, call.deadline) = (true, None),
            _ => drop(self.calls.remove(&id)),
        }
    }

    fn greet(&mut self) -> Vec<Said> {
        match self.phase {
            Phase::Greeting { .. } => {
                self.phase = Phase::Negotiating { until: self.now + GREETING_TIMEOUT, asked: false };
                vec![Said::Greeting]
            }
            Phase::Negotiating { .. } | Phase::Ready => vec![Said::Dropped(DropReason::Unrecognised)],
            Phase::Closed => vec![],
        }
    }

    fn reply(&mut self, own: Option<u64>, good: bool) -> Vec<Said> {
        match (&mut self.phase, own) {
            (Phase::Greeting { saw_other, .. }, _) => {
                *saw_other = true;
                vec![Said::Dropped(DropReason::Stale)]
            }
            (Phase::Negotiating { asked: true, .. }, Some(0)) if good => {
                self.phase = Phase::Ready;
                vec![Said::Negotiated]
            }
            (Phase::Negotiating { asked: true, .. }, Some(0)) => self.close(Kind::Protocol),
            (Phase::Negotiating { .. }, _) | (Phase::Ready, None) => vec![Said::Dropped(DropReason::Stale)],
            (Phase::Ready, Some(id)) => match self.calls.get(&id).copied() {
                Some(call) if call.sent => {
                    self.calls.remove(&id);
                    vec![match (call.abandoned, good) {
                        (true, _) => Said::Dropped(DropReason::Abandoned),
                        (false, true) => Said::Returned(id),
                        (false, false) => Said::Failed(id, Kind::Rejected, Effect::None),
                    }]
                }
                _ => vec![Said::Dropped(DropReason::UnknownCall)],
            },
            (Phase::Closed, _) => vec![],
        }
    }

    fn reply_without_id(&mut self, good: bool) -> Vec<Said> {
        if self.phase != Phase::Ready {
            return self.reply(None, good);
        }
        let sent: Vec<u64> = self.calls.iter().filter(|(_, call)| call.sent).map(|(&id, _)| id).collect();
        vec![match sent.as_slice() {
            [oldest, others @ ..] if !good => {
                let call = self.calls.remove(oldest).expect("it was found");
                let effect = if others.is_empty() { Effect::None } else { Effect::Unknown };
                if call.abandoned {
                    Said::Dropped(DropReason::Abandoned)
                } else {
                    Said::Failed(*oldest, Kind::Rejected, effect)
                }
            }
            _ => Said::Dropped(DropReason::NoId),
        }]
    }

    /// An object that is no reply.
    fn other(&mut self, said: Said) -> Vec<Said> {
        match self.phase {
            Phase::Greeting { .. } => self.close(Kind::Protocol),
            Phase::Negotiating { .. } | Phase::Ready => vec![said],
            Phase::Closed => vec![],
        }
    }

    fn pass(&mut self, ticks: u64) -> Vec<Said> {
        self.now += ticks;
        let is_over = |call: &Call| call.deadline.is_some_and(|deadline| deadline <= self.now);
        let over: Vec<_> =
            self.calls.iter().filter(|(_, call)| is_over(call)).map(|(&id, &c)| (id, c)).collect();
        let mut said = Vec::new();
        for (id, call) in over {
            said.push(Said::Failed(id, Kind::TimedOut, call.effect()));
            self.abandon(id);
        }
        said.extend(match self.phase {
            Phase::Greeting { until, saw_other: true } if until <= self.now => self.close(Kind::Protocol),
            Phase::Greeting { until, .. } if until <= self.now => self.close(Kind::Busy),
            Phase::Negotiating { until, .. } if until <= self.now => self.close(Kind::TimedOut),
            _ => vec![],
        });
        said
    }
}

/// `data` as a sequence of what may happen to a session, two bytes each: calls, abandonments, replies in any order and
/// to any request or none, events, time, the end. The session says what the model says.
pub fn any_operations(data: &[u8]) {
    let start = Instant::now();
    let mut session = session(start);
    let mut model = Model {
        phase: Phase::Greeting { until: GREETING_TIMEOUT, saw_other: false },
        now: 0,
        calls: BTreeMap::new(),
        last: 0,
    };
    let mut ids: Vec<CallId> = Vec::new();
    // Most sequences are about a session that is ready; the first byte may leave that to the sequence.
    let ready: &[u8] = &[11, 0, 2, 0, 3, 0];
    let prelude = if data.first().is_some_and(|first| first & 7 != 0) { ready } else { &[] };
    for pair in prelude.chunks_exact(2).chain(data.get(1..).unwrap_or_default().chunks_exact(2)) {
        let (operation, argument) = (pair[0] % 16, pair[1]);
        let now = start + TICK * u32::try_from(model.now).expect("at most 256 ticks an operation");
        let some_id = u64::from(argument) % (model.last + 2);
        let mut hear = |text: String| {
            // The pieces in which it comes change nothing.
            for piece in text.as_bytes().chunks(usize::from(argument % 9) + 1) {
                session.handle_input(now, piece);
            }
        };
        let expected = match operation {
            0 | 1 if model.phase == Phase::Closed => {
                assert!(session.send("c", &Map::new(), None).is_err());
                vec![]
            }
            0 | 1 => {
                let ticks = (operation == 1).then_some(u64::from(argument % 8));
                let deadline = ticks.map(|ticks| now + TICK * u32::try_from(ticks).expect("it is small"));
                ids.push(session.send("c", &Map::new(), deadline).expect("it is open"));
                model.send(ticks.map(|ticks| model.now + ticks));
                assert_eq!(ids.last().copied().map(number), Some(model.last));
                vec![]
            }
            2 => {
                let message = session.poll_transmit();
                let id = model.transmit().map(|id| format!("\"{NONCE:016x}.{id}\""));
                assert_eq!(message.is_some(), id.is_some(), "what is sent");
                if let (Some(message), Some(id)) = (message, id) {
                    assert!(String::from_utf8_lossy(&message).contains(&id), "{message:?} has {id}");
                }
                vec![]
            }
            3 => {
                hear(reply(some_id, "\"return\": {}"));
                model.reply(Some(some_id), true)
            }
            4 => {
                hear(reply(some_id, "\"error\": {\"class\": \"C\", \"desc\": \"d\"}"));
                model.reply(Some(some_id), false)
            }
            5 => {
                let unknown = ["7", "\"x\"", "{\"a\": []}", "\"0000000000000008.1\"", "null"];
                let unknown = unknown[usize::from(argument) % unknown.len()];
                hear(format!("{{\"return\": {{}}, \"id\": {unknown}}}"));
                model.reply(None, true)
            }
            6 => {
                hear("{\"error\": {\"class\": \"C\", \"desc\": \"d\"}}".to_owned());
                model.reply_without_id(false)
            }
            7 => {
                hear("{\"return\": {}}".to_owned());
                model.reply_without_id(true)
            }
            8 => {
                hear("{\"event\": \"STOP\"}\r\n".to_owned());
                model.other(Said::Event)
            }
            9 => {
                let ticks = u64::from(argument % 8);
                let expected = model.pass(ticks);
                session.handle_timeout(now + TICK * u32::try_from(ticks).expect("it is small"));
                expected
            }
            10 => {
                if let Some(&id) = ids.get(usize::from(argument) % ids.len().max(1)) {
                    session.abandon(id);
                    model.abandon(number(id));
                }
                vec![]
            }
            11 => {
                hear(GREETING.to_owned());
                model.greet()
            }
            12 => {
                hear("{\"news\": 1}".to_owned());
                model.other(Said::Dropped(DropReason::Unrecognised))
            }
            // The ends of a session are rare, so that sequences get far.
            13 if argument < 16 => {
                hear("garbage".to_owned());
                model.close(Kind::Protocol)
            }
            14 if argument < 16 => {
                session.handle_close(None);
                model.close(Kind::Disconnected)
            }
            15 if argument < 16 => {
                hear(format!("{{\"{}", "x".repeat(MAX_MESSAGE)));
                model.close(Kind::TooLarge)
            }
            _ => vec![],
        };
        let found: Vec<_> = std::iter::from_fn(|| session.poll_output()).map(said).collect();
        assert_eq!(found, expected, "after {pair:?}; {model:?}");
        let handshake = match model.phase {
            Phase::Greeting { until, .. } | Phase::Negotiating { until, .. } => Some(until),
            _ => None,
        };
        let next = model.calls.values().filter_map(|call| call.deadline).chain(handshake).min();
        let next = next.map(|ticks| start + TICK * u32::try_from(ticks).expect("it is small"));
        assert_eq!(session.poll_timeout(), next, "the next deadline");
        assert_eq!(session.unanswered(), model.calls.values().filter(|call| call.sent).count());
        assert_eq!(session.is_closed(), model.phase == Phase::Closed);
    }
}
