//! One run of qemu-img: no shell, C locale, bounded output.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::argument::quote;
use crate::{Effect, Error, Kind, Lender, recognise};

/// How much of standard error is kept, in bytes from its end: enough for the first words of a message that quotes a long
/// path twice.
const KEPT: usize = 32 * 1024;

/// How much of standard error an error shows, in characters from its end.
const SHOWN: usize = 1500;

/// Limits on a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most bytes on standard output, and of a run that only reads on standard error too.
    pub(crate) output: usize,
    /// The longest time that a run that only reads a header may take.
    pub(crate) time: Duration,
}

/// What a run does to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// It reads the header: a moment's work, ended when it takes longer, or when its future is dropped.
    Look,
    /// It reads all metadata, however long that takes; ended when its future is dropped.
    Read,
    /// It writes: never ended, since a half-done write leaves leaked clusters or worse.
    Write,
    /// It moves data down, which can be broken off and done again: ended when its future is dropped.
    Move,
}

impl Does {
    /// Whether it changes an image.
    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Move)
    }
}

/// A program with its arguments, and what it does.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    program: &'a Path,
    arguments: Vec<OsString>,
    /// Names given by others, which qemu-img's messages repeat.
    names: Vec<String>,
    does: Does,
    /// What lends the file that a run that writes holds open.
    lender: Option<&'a dyn Lender>,
}

/// A run that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The end of standard error.
    stderr: String,
}

impl<'a> Invocation<'a> {
    pub(crate) fn new(program: &'a Path, does: Does) -> Self {
        Self { program, arguments: Vec::new(), names: Vec::new(), does, lender: None }
    }

    pub(crate) fn holding(mut self, lender: Option<&'a dyn Lender>) -> Self {
        self.lender = lender;
        self
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds an argument that others chose.
    pub(crate) fn name(self, argument: impl Into<OsString>) -> Self {
        let argument = argument.into();
        self.about(&argument).arg(argument)
    }

    /// Notes a name that others chose and that messages may repeat.
    pub(crate) fn about(mut self, name: &OsStr) -> Self {
        self.names.push(name.to_string_lossy().into_owned());
        self
    }

    /// Runs it and wants status 0.
    pub(crate) async fn succeed(&self, limits: Limits) -> Result<Vec<u8>, Error> {
        let ended = self.run(limits).await?;
        if ended.status.success() { Ok(ended.stdout) } else { Err(self.failure(&ended)) }
    }

    /// Runs it to its end, whatever that is.
    pub(crate) async fn run(&self, limits: Limits) -> Result<Ended, Error> {
        self.run_heard(limits, &|_| ()).await
    }

    /// The same; `hear` is told what comes on standard output, as it comes.
    pub(crate) async fn run_heard(
        &self,
        limits: Limits,
        hear: &(dyn Fn(&[u8]) + Send + Sync),
    ) -> Result<Ended, Error> {
        if self.arguments.iter().any(|a| a.as_encoded_bytes().contains(&0)) {
            return Err(Error::new(Kind::Unsupported, "a name with a zero byte can't be given to qemu-img"));
        }
        tracing::debug!(command = %self, "run");
        let mut child = self.spawn()?;
        let effect = if self.does.writes() { Effect::Unknown } else { Effect::None };
        let ended = match self.does {
            Does::Look => tokio::time::timeout(limits.time, self.wait(&mut child, limits, hear))
                .await
                .unwrap_or_else(|_| Err(self.error(Kind::Failed, "did not end in time"))),
            Does::Read | Does::Write | Does::Move => self.wait(&mut child, limits, hear).await,
        };
        if ended.is_err() && !self.does.writes() {
            // One whose output has no end, or that does not end.
            let _ = child.start_kill();
        }
        ended.map_err(|e| e.with_effect(effect))
    }

    /// The error that says how the run ended.
    pub(crate) fn failure(&self, ended: &Ended) -> Error {
        let said = self.without_names(&ended.stderr);
        let effect = if self.does.writes() { recognise::effect(&said) } else { Effect::None };
        let shown = shown(&ended.stderr);
        let how = match ended.status.code() {
            Some(code) => format!("ended with status {code}"),
            None => format!("was ended by {}", ended.status),
        };
        let message = if shown.is_empty() { how } else { format!("{how}: {shown}") };
        self.error(recognise::kind(&said), &message).with_effect(effect)
    }

    fn error(&self, kind: Kind, what: &str) -> Error {
        Error::new(kind, format!("`{self}` {what}"))
    }

    /// What it reads from; qemu-img reads nothing.
    fn stdin(&self) -> Result<Stdio, Error> {
        let Some(lender) = self.lender.filter(|_| self.does.writes()) else { return Ok(Stdio::null()) };
        match lender.lend() {
            Ok(file) => Ok(file.map_or_else(Stdio::null, Stdio::from)),
            Err(source) => Err(self
                .error(Kind::Failed, "was not started: what it is to hold open cannot be lent")
                .with_source(source)),
        }
    }

    fn spawn(&self) -> Result<Child, Error> {
        Command::new(self.program)
            .args(&self.arguments)
            .env("LC_ALL", "C")
            .env_remove("LANGUAGE")
            .stdin(self.stdin()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A key at the terminal ends the caller, which may have to undo something; not a write half-way.
            .process_group(0)
            .kill_on_drop(self.does != Does::Write)
            .spawn()
            .map_err(|source| {
                let kind = match source.kind() {
                    std::io::ErrorKind::ArgumentListTooLong => Kind::Unsupported,
                    _ => Kind::NoProgram,
                };
                let program = quote(self.program.as_os_str());
                Error::new(kind, format!("{program} can't be started")).with_source(source)
            })
    }

    async fn wait(
        &self,
        child: &mut Child,
        limits: Limits,
        hear: &(dyn Fn(&[u8]) + Send + Sync),
    ) -> Result<Ended, Error> {
        let stdout = child.stdout.take().expect("standard output was asked for as a pipe");
        let stderr = child.stderr.take().expect("standard error was asked for as a pipe");
        let endless = if self.does.writes() { usize::MAX } else { limits.output };
        let broken = |source: Fault| match source {
            Fault::TooMuch => self.error(Kind::Failed, &format!("wrote more than {} bytes", limits.output)),
            Fault::Io(source) => self.error(Kind::Failed, "can't be listened to").with_source(source),
        };
        let (stdout, stderr) = tokio::try_join!(
            read(stdout, endless, limits.output, hear),
            read(stderr, endless, KEPT, &|_| ())
        )
        .map_err(broken)?;
        let status = child.wait().await.map_err(|source| broken(Fault::Io(source)))?;
        Ok(Ended { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    /// What was said without the names in it, which may hold any phrase.
    fn without_names(&self, said: &str) -> String {
        let mut names: Vec<&String> = self.names.iter().filter(|n| !n.is_empty()).collect();
        names.sort_by_key(|n| std::cmp::Reverse(n.len()));
        // QEMU repeats a name as 'NAME' or before a colon.
        names.into_iter().fold(said.to_owned(), |said, name| {
            let said = said.replace(&format!("'{name}'"), "''");
            said.strip_prefix(&format!("qemu-img: {name}: "))
                .map(|s| format!("qemu-img: {s}"))
                .unwrap_or(said)
        })
    }
}

impl fmt::Display for Invocation<'_> {
    /// As one would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(self.program.as_os_str()))?;
        self.arguments.iter().try_for_each(|a: &OsString| write!(f, " {}", quote(OsStr::new(a))))
    }
}

/// The end of standard error as one line that does nothing to a terminal.
fn shown(stderr: &str) -> String {
    let said = stderr.trim();
    let said = said.strip_prefix("qemu-img: ").unwrap_or(said);
    let skipped = said.chars().count().saturating_sub(SHOWN);
    let line = said.chars().skip(skipped).map(|c| if c.is_control() { ' ' } else { c });
    if skipped == 0 { line.collect() } else { "... ".chars().chain(line).collect() }
}

enum Fault {
    TooMuch,
    Io(std::io::Error),
}

/// Reads to the end, at most `limit` bytes, and keeps the last `keep` or a little more.
async fn read(
    mut from: impl AsyncRead + Unpin,
    limit: usize,
    keep: usize,
    hear: &(dyn Fn(&[u8]) + Send + Sync),
) -> Result<Vec<u8>, Fault> {
    let mut kept = Vec::new();
    let mut total = 0_usize;
    loop {
        let before = kept.len();
        kept.reserve(8192);
        if from.read_buf(&mut kept).await.map_err(Fault::Io)? == 0 {
            break;
        }
        hear(&kept[before..]);
        total = total.saturating_add(kept.len() - before);
        if total > limit {
            return Err(Fault::TooMuch);
        }
        if kept.len() / 2 > keep {
            kept.drain(..kept.len() - keep);
        }
    }
    kept.drain(..kept.len().saturating_sub(keep));
    Ok(kept)
}
