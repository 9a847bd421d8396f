//! The state machine.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tracing::trace;

use super::message::{answer, one_line, request};
use crate::{Effect, Error, Kind};

/// The settings of a [`Session`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// What the other side is called in messages: the path of its socket.
    pub peer: String,
    /// A number that no other session with the same agent has.
    pub nonce: u32,
    /// The longest answer, in bytes.
    pub max_message: usize,
}

impl Config {
    /// Enough for all but the content of files.
    pub const DEFAULT_MAX_MESSAGE: usize = 1 << 20;

    /// The default settings for a session with `peer`.
    pub fn new(peer: impl Into<String>, nonce: u32) -> Self {
        Self { peer: peer.into(), nonce, max_message: Self::DEFAULT_MAX_MESSAGE }
    }
}

/// Marks the answer to `guest-sync-delimited`, and stands in no JSON.
const MARK: u8 = 0xff;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// What comes may be the answer to any request, and is dropped.
    Apart,
    /// `guest-sync-delimited` goes out with this number. Whether a mark has come, so that a line follows.
    Syncing {
        number: i64,
        marked: bool,
    },
    /// What comes answers our command.
    InSync,
    Closed,
}

#[derive(Debug)]
struct Call {
    command: String,
    /// The message; taken when it is given out to be written.
    unsent: Option<Bytes>,
    /// Whether it goes out before the agent has answered anything.
    at_once: bool,
}

impl Call {
    fn effect(&self) -> Effect {
        if self.unsent.is_some() { Effect::None } else { Effect::Unknown }
    }
}

/// A conversation with one agent: one command at a time.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    syncs: u16,
    /// `guest-sync-delimited`, until it is given out.
    sync: Option<Vec<u8>>,
    call: Option<Call>,
    reply: Option<Result<Value, Error>>,
    /// The start of a line whose end has not come; never longer than the limit.
    line: Vec<u8>,
    /// How much came since the call began that answers nothing, and how it begins.
    dropped: usize,
    excerpt: Vec<u8>,
}

impl Session {
    /// A session with an agent of which nothing is known.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::Apart,
            syncs: 0,
            sync: None,
            call: None,
            reply: None,
            line: Vec::new(),
            dropped: 0,
            excerpt: Vec::new(),
        }
    }

    /// Starts a call, which goes out once the agent is known to listen. One that is open is given up.
    ///
    /// # Errors
    /// [`Kind::Disconnected`], without effect: the session is closed.
    pub fn call(&mut self, command: &str, arguments: &Map<String, Value>) -> Result<(), Error> {
        self.start(command, arguments, false)
    }

    /// The same for a command that goes out at once, so that an agent that hears of it late still executes it: after an
    /// earlier command that is not awaited any more, and although this one is not awaited.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub fn call_at_once(&mut self, command: &str, arguments: &Map<String, Value>) -> Result<(), Error> {
        self.start(command, arguments, true)
    }

    fn start(&mut self, command: &str, arguments: &Map<String, Value>, at_once: bool) -> Result<(), Error> {
        if self.state == State::Closed {
            let message = format!("{command}: not sent: the connection to {} is closed", self.config.peer);
            return Err(Error::new(Kind::Disconnected, Effect::None, message));
        }
        if self.call.is_some() {
            self.part();
        }
        self.reply = None;
        self.dropped = 0;
        self.excerpt.clear();
        let unsent = Some(request(command, arguments).into());
        self.call = Some(Call { command: command.to_owned(), unsent, at_once });
        if self.state == State::Apart {
            self.begin_sync();
        }
        Ok(())
    }

    fn begin_sync(&mut self) {
        self.syncs = self.syncs.wrapping_add(1);
        let number = (i64::from(self.config.nonce) << 16) | i64::from(self.syncs);
        let arguments = Map::from_iter([("id".to_owned(), json!(number))]);
        let mut message = vec![MARK];
        message.extend(request("guest-sync-delimited", &arguments));
        self.sync = Some(message);
        self.state = State::Syncing { number, marked: false };
        self.line.clear();
    }

    /// What is to be written now. What is given out counts as sent.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let goes_now = |call: &&mut Call| call.at_once || self.state == State::InSync;
        let message = self.call.as_mut().filter(goes_now).and_then(|call| call.unsent.take());
        let bytes = match (self.sync.take(), message) {
            (Some(mut sync), message) => {
                sync.extend(message.unwrap_or_default());
                sync.into()
            }
            (None, message) => message?,
        };
        trace!(peer = self.config.peer, "-> {}", String::from_utf8_lossy(&bytes));
        Some(bytes)
    }

    /// Takes what the agent sent.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        trace!(peer = self.config.peer, "<- {}", String::from_utf8_lossy(bytes));
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Apart | State::Closed => {
                    self.drop_bytes(rest);
                    &[]
                }
                State::Syncing { number, marked: false } => {
                    match rest.iter().position(|byte| *byte == MARK) {
                        None => {
                            self.drop_bytes(rest);
                            &[]
                        }
                        Some(at) => {
                            self.drop_bytes(&rest[..at]);
                            self.state = State::Syncing { number, marked: true };
                            &rest[at + 1..]
                        }
                    }
                }
                State::Syncing { number, marked: true } => self.take_sync(number, rest),
                State::InSync => self.take_answer(rest),
            };
        }
    }

    /// Takes of the line behind a mark, and gives what follows it.
    fn take_sync<'a>(&mut self, number: i64, bytes: &'a [u8]) -> &'a [u8] {
        match self.take_line(bytes) {
            Line::Open => &[],
            // What was cut off, and then the answer to another.
            Line::Marked(rest) => {
                self.drop_line();
                rest
            }
            Line::Ended(rest) => {
                let is_ours =
                    answer(&self.line, "").is_some_and(|said| said.is_ok_and(|said| said == number));
                if is_ours {
                    self.line.clear();
                    self.state = State::InSync;
                } else {
                    self.drop_line();
                    self.state = State::Syncing { number, marked: false };
                }
                rest
            }
            Line::TooLong(rest) => {
                self.drop_line();
                self.state = State::Syncing { number, marked: false };
                rest
            }
        }
    }

    /// Takes of the line that answers the call, and gives what follows it.
    fn take_answer<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_owed = self.call.as_ref().is_some_and(|call| call.unsent.is_none());
        if !is_owed {
            // Between two answers there are line ends at most.
            let rest = bytes.trim_ascii_start();
            if !rest.is_empty() {
                self.state = State::Apart;
                if self.call.is_some() {
                    self.begin_sync();
                }
            }
            return rest;
        }
        match self.take_line(bytes) {
            Line::Open => &[],
            Line::Ended(rest) if self.line.trim_ascii().is_empty() => {
                self.line.clear();
                rest
            }
            Line::Ended(rest) => {
                let line = std::mem::take(&mut self.line);
                let command = self.call.as_ref().map_or("", |call| &call.command);
                match answer(&line, command) {
                    Some(said) => {
                        self.call = None;
                        self.reply = Some(said);
                    }
                    None => {
                        let text = one_line(&String::from_utf8_lossy(&line));
                        self.fail(&format!("what answers is no answer of an agent: {text}"));
                    }
                }
                rest
            }
            Line::Marked(rest) => {
                self.fail("an answer to another client's guest-sync-delimited came");
                rest
            }
            Line::TooLong(rest) => {
                self.fail(&format!("the answer has more than {} bytes", self.config.max_message));
                rest
            }
        }
    }

    /// Adds to the line up to its end, if that is in `bytes`.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Line<'a> {
        let room = self.config.max_message.saturating_sub(self.line.len());
        let end = bytes.iter().position(|byte| matches!(*byte, b'\n' | MARK));
        let content = &bytes[..end.unwrap_or(bytes.len())];
        if content.len() > room {
            self.line.extend_from_slice(&content[..room]);
            return Line::TooLong(&bytes[room..]);
        }
        self.line.extend_from_slice(content);
        match end {
            None => Line::Open,
            Some(end) if bytes[end] == MARK => Line::Marked(&bytes[end + 1..]),
            Some(end) => Line::Ended(&bytes[end + 1..]),
        }
    }

    /// Takes note that the other side closed the connection, or that it broke with `error`.
    pub fn handle_close(&mut self, error: Option<std::io::Error>) {
        let was_in_sync = self.state == State::InSync;
        self.state = State::Closed;
        self.line = Vec::new();
        let Some(call) = self.call.take() else { return };
        let peer = &self.config.peer;
        let how = match (&error, was_in_sync) {
            (Some(_), _) => format!("the connection to {peer} broke"),
            (None, true) => format!("{peer} closed the connection"),
            (None, false) => format!("{peer} closed the connection before the agent answered anything"),
        };
        let mut lost = Error::new(
            Kind::Disconnected,
            call.effect(),
            format!("{}: {how}; {}", call.command, then(call.effect())),
        );
        if let Some(error) = error {
            lost = lost.with_source(error);
        }
        self.reply = Some(Err(lost));
    }

    /// How the call ended, if it has; at most once for each.
    pub fn poll_reply(&mut self) -> Option<Result<Value, Error>> {
        self.reply.take()
    }

    /// Gives up the call, because its time is over, and says what is known of it.
    pub fn give_up(&mut self) -> Error {
        let was_in_sync = self.state == State::InSync;
        let call = self.call.take();
        self.part();
        let (command, effect) = call.map_or_else(
            || ("nothing".to_owned(), Effect::None),
            |call| (call.command.clone(), call.effect()),
        );
        let (peer, then) = (&self.config.peer, then(effect));
        let (kind, why) = if was_in_sync {
            (Kind::TimedOut, format!("the agent at {peer} did not answer in time"))
        } else if self.dropped > 0 {
            let text = one_line(&String::from_utf8_lossy(&self.excerpt));
            let count = self.dropped;
            (
                Kind::Protocol,
                format!("of the {count} bytes that came from {peer} none answers us; they begin: {text}"),
            )
        } else {
            let cause =
                "no agent runs in the guest, the guest stands still, or another client holds the socket";
            (Kind::Silent, format!("no agent answers at {peer}: {cause}"))
        };
        Error::new(kind, effect, format!("{command}: {why}; {then}"))
    }

    /// Ends the call with what is no answer.
    fn fail(&mut self, why: &str) {
        if let Some(call) = self.call.take() {
            let message = format!("{}: {}: {why}; {}", call.command, self.config.peer, then(call.effect()));
            self.reply = Some(Err(Error::new(Kind::Protocol, call.effect(), message)));
        }
        self.part();
    }

    /// What comes from now on may be the answer to a request that is not awaited any more.
    fn part(&mut self) {
        self.call = None;
        self.sync = None;
        self.line.clear();
        if self.state != State::Closed {
            self.state = State::Apart;
        }
    }

    fn drop_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.drop_bytes(&line);
    }

    fn drop_bytes(&mut self, bytes: &[u8]) {
        /// Of what is told in a message.
        const EXCERPT: usize = 120;
        self.dropped = self.dropped.saturating_add(bytes.len());
        let room = EXCERPT.saturating_sub(self.excerpt.len());
        self.excerpt.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// How a line goes on, with what follows it.
enum Line<'a> {
    Open,
    Ended(&'a [u8]),
    /// A mark came before its end.
    Marked(&'a [u8]),
    /// What follows begins in the middle of it.
    TooLong(&'a [u8]),
}

fn then(effect: Effect) -> &'static str {
    match effect {
        Effect::None => "it was not sent",
        _ => "whether it was executed is not known",
    }
}
