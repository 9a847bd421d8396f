//! A failure as the user sees it: what failed, why, what is the state now, what to do.

use std::error::Error as _;
use std::io::{self, Write};

use serde::Serialize;
use xlsnap::Effect;

use crate::exit::Exit;
use crate::render::text::visible;

/// More causes than any honest chain has.
const MAX_CAUSES: usize = 16;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    effect: Effect,
    advice: Option<String>,
    /// Standard output was closed by its reader: there is nothing to tell, and no reader.
    silent: bool,
}

/// A failure's JSON form, documented in docs/json.md.
#[derive(Serialize)]
struct FailureJson<'a> {
    schema: &'static str,
    exit: u8,
    kind: Exit,
    message: &'a str,
    causes: &'a [String],
    effect: Effect,
    advice: Option<&'a str>,
}

impl Failure {
    /// A failure without effect.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            effect: Effect::None,
            advice: None,
            silent: false,
        }
    }

    /// A mistake in the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same with its cause, and its cause's.
    pub(crate) fn because(mut self, source: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(source);
        while let Some(cause) = next
            && self.causes.len() < MAX_CAUSES
        {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// The same with what to do about it.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same after the operation, which it does not undo; the exit code tells of the operation.
    pub(crate) fn though_done(mut self) -> Self {
        self.exit = Exit::Done;
        self.effect = Effect::Done;
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Tells it on `out`, for people or for programs.
    pub(crate) fn write(&self, out: &mut dyn Write, json: bool) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        if json {
            let form = FailureJson {
                schema: "xlsnap.error/1",
                exit: self.exit.code(),
                kind: self.exit,
                message: &self.message,
                causes: &self.causes,
                effect: self.effect,
                advice: self.advice.as_deref(),
            };
            serde_json::to_writer(&mut *out, &form)?;
            return writeln!(out);
        }
        writeln!(out, "xlsnap: {}", indented(&self.message))?;
        for cause in &self.causes {
            writeln!(out, "  because: {}", indented(cause))?;
        }
        match (self.exit, self.effect) {
            (Exit::Usage, _) => {}
            (Exit::RecoveryPending, _) => {
                writeln!(out, "  now: half done; nothing else is done before it is recovered")?
            }
            (_, Effect::None) => writeln!(out, "  now: nothing was changed")?,
            (_, Effect::Done) => writeln!(out, "  now: it was done")?,
            (_, Effect::Unknown) => writeln!(out, "  now: it may have been done, or half of it")?,
        }
        if let Some(advice) = &self.advice {
            writeln!(out, "  try: {}", indented(advice))?;
        }
        Ok(())
    }
}

/// Causes may have several lines (a TOML error points at the place); the lines that follow are indented.
fn indented(text: &str) -> String {
    let mut lines = text.trim_end().lines().filter(|line| !line.trim().is_empty());
    let mut indented = lines.next().map(visible).unwrap_or_default().into_owned();
    for line in lines {
        indented.push_str("\n    ");
        indented.push_str(&visible(line));
    }
    indented
}

impl From<xlsnap::Error> for Failure {
    fn from(error: xlsnap::Error) -> Self {
        let mut failure = Self::new(error.kind().into(), error.to_string());
        failure.effect = error.effect();
        failure.advice = error.advice().map(str::to_owned);
        match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

/// A failure to write the answer.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            let mut failure = Self::new(Exit::Done, "");
            failure.silent = true;
            return failure;
        }
        Self::new(Exit::Failed, "cannot write the answer").because(&error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        // Our own structs always serialise; what fails is the writing.
        Self::from(io::Error::from(error))
    }
}
