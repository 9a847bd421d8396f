//! What the monitor does on one connection.

use std::collections::VecDeque;
use std::fmt;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::Gate;

/// The greeting of QEMU 10.0.2.
pub const GREETING: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": ["oob"]}}"#,
    "\r\n"
);

/// How the monitor answers a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is executed and returns this.
    Return(Value),
    /// It is refused with the class GenericError and this description.
    Error(String),
    /// It is refused with the class CommandNotFound.
    NotFound,
}

type Table = Box<dyn FnMut(&str, &Map<String, Value>) -> Answer + Send>;

enum Step {
    Send(Vec<u8>),
    Read,
    Answer(Answer),
    Serve(Table),
    Wait(Gate),
    Open(Gate),
    Close,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "Send",
            Self::Read => "Read",
            Self::Answer(_) => "Answer",
            Self::Serve(_) => "Serve",
            Self::Wait(_) => "Wait",
            Self::Open(_) => "Open",
            Self::Close => "Close",
        })
    }
}

/// The steps of one connection, in order. At its end the monitor reads on, and answers nothing, until the client
/// leaves; unless the last step is [`Script::close`].
#[derive(Debug, Default)]
#[must_use]
pub struct Script {
    steps: VecDeque<Step>,
}

impl Script {
    /// Says nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Greets, and answers `qmp_capabilities`.
    pub fn ready() -> Self {
        Self::new().greet().read().give(json!({}))
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// Sends the greeting of QEMU 10.0.2.
    pub fn greet(self) -> Self {
        self.send(GREETING)
    }

    /// Sends these bytes as they are.
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(bytes.as_ref().to_vec()))
    }

    /// Reads one command. Answers go to the oldest command that was read and not answered.
    pub fn read(self) -> Self {
        self.then(Step::Read)
    }

    /// Answers with this `return`.
    pub fn give(self, value: Value) -> Self {
        self.then(Step::Answer(Answer::Return(value)))
    }

    /// Answers with an error of class GenericError.
    pub fn refuse(self, description: &str) -> Self {
        self.then(Step::Answer(Answer::Error(description.to_owned())))
    }

    /// Answers each command as `table` says, until the client leaves.
    pub fn serve(self, table: impl FnMut(&str, &Map<String, Value>) -> Answer + Send + 'static) -> Self {
        self.then(Step::Serve(Box::new(table)))
    }

    /// Goes on when the test opens `gate`.
    pub fn wait(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    /// Opens `gate`, for which the test waits.
    pub fn open(self, gate: &Gate) -> Self {
        self.then(Step::Open(gate.clone()))
    }

    /// Closes the connection.
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }

    /// Plays it; tells `heard` each command. Ends when the connection does.
    pub(super) async fn play<S>(self, stream: S, heard: impl Fn(&Value)) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = BufReader::new(stream);
        let mut unanswered = VecDeque::new();
        for step in self.steps {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes).await?,
                Step::Read => match read(&mut stream).await? {
                    Some(command) => {
                        heard(&command);
                        unanswered.push_back(command);
                    }
                    None => return Ok(()),
                },
                Step::Answer(answer) => {
                    let command = unanswered.pop_front().expect("a script reads a command before it answers");
                    reply(&mut stream, &command, answer).await?;
                }
                Step::Serve(mut table) => {
                    while let Some(command) = read(&mut stream).await? {
                        heard(&command);
                        let none = Map::new();
                        let arguments = command["arguments"].as_object().unwrap_or(&none);
                        let answer = table(command["execute"].as_str().unwrap_or_default(), arguments);
                        reply(&mut stream, &command, answer).await?;
                    }
                }
                Step::Wait(gate) => gate.passed().await,
                Step::Open(gate) => gate.open(),
                Step::Close => return Ok(()),
            }
        }
        while let Some(command) = read(&mut stream).await? {
            heard(&command);
        }
        Ok(())
    }
}

/// One line, which must be JSON; `None` at the end.
async fn read<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<Option<Value>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 || !line.ends_with('\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line).expect("a client sends JSON")))
}

async fn reply<S: AsyncWrite + Unpin>(
    stream: &mut S,
    command: &Value,
    answer: Answer,
) -> std::io::Result<()> {
    let mut message = match answer {
        Answer::Return(value) => json!({"return": value}),
        Answer::Error(desc) => json!({"error": {"class": "GenericError", "desc": desc}}),
        Answer::NotFound => {
            let name = command["execute"].as_str().unwrap_or_default();
            let desc = format!("The command {name} has not been found");
            json!({"error": {"class": "CommandNotFound", "desc": desc}})
        }
    };
    if let Some(id) = command.get("id") {
        message["id"] = id.clone();
    }
    stream.write_all(format!("{message}\r\n").as_bytes()).await
}
