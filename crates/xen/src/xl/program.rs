//! The program.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use xlsnap_types::model::StateFlags;

use super::output::Output;
use super::{Effect, Error, Kind, list, process, recognise};
use crate::domains::GuestKind;
use crate::toolstack::Suspended;
use crate::{Domid, Saved, Told, Toolstack};

/// How often is looked what xl says, at first and when it goes on for longer. Its end is told at once.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Where xl is, if not in `PATH`.
const SBIN: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// How long a command has to end when it is told to.
const GRACE: Duration = Duration::from_secs(5);

/// How patient [`Xl`] is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// How long a command that moves no memory may take. 5 minutes by default: xl itself waits up to 10 s for QEMU, for each disk, and
    /// Xen clears the memory of a large domain when it is made and when it is ended.
    pub time: Duration,
    /// How long a command that moves memory may go without moving any. 3 minutes by default: xl waits for up to 60 s until a guest
    /// stands still.
    pub standstill: Duration,
    /// How long xl has to put the guest back after it was told to end a save. 1 minute by default.
    pub patience: Duration,
    /// The most bytes that it may print. 16 MiB by default.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(300),
            standstill: Duration::from_secs(180),
            patience: Duration::from_secs(60),
            output: 16 << 20,
        }
    }
}

/// The program `xl`.
#[derive(Debug, Clone)]
pub struct Xl {
    path: PathBuf,
    limits: Limits,
}

impl Default for Xl {
    /// `xl`, found through `PATH`, or where administrators' programs are.
    fn default() -> Self {
        Self::new("xl")
    }
}

/// A command that has ended.
pub(super) struct Ended {
    status: ExitStatus,
    stdout: String,
    pub(super) stderr: String,
}

/// A command that goes on.
pub(super) struct Running {
    pub(super) command: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Xl {
    /// The program at `path`; a bare name is looked for in `PATH`, then where administrators' programs are.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), limits: Limits::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs a command that moves no memory.
    async fn run(&self, words: &[&OsStr], effect: Effect) -> Result<Ended, Error> {
        let mut running = self.start(words)?;
        let deadline = Instant::now() + self.limits.time;
        let waited = self.wait(&mut running, || Instant::now() < deadline).await;
        if !matches!(waited, Ok(Some(_))) {
            self.kill(&mut running.child).await;
        }
        let ended = running.ended(waited, effect)?;
        if ended.status.success() { Ok(ended) } else { Err(failure(&running.command, &ended, effect)) }
    }

    /// Runs a command that moves memory from or to `file`; `None` when it stood still for too long, and goes on.
    pub(super) async fn move_memory(
        &self,
        running: &mut Running,
        total: Option<u64>,
        how_far: impl Fn() -> Option<u64>,
        told: Told<'_>,
        mut begins: impl FnMut(&str),
    ) -> Result<Option<Ended>, Error> {
        let (mut far, mut length) = (None, 0);
        let mut moved = Instant::now();
        let mut looked = Instant::now();
        let stderr = running.stderr.clone();
        self.wait(running, || {
            let said = stderr.length();
            if said != length {
                (length, moved) = (said, Instant::now());
                let said = stderr.text(64 << 10);
                begins(&said);
                if let Some((done, of)) = recognise::progress(&said) {
                    told(done, Some(of));
                }
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let now = how_far();
                if now != far {
                    (far, moved) = (now, Instant::now());
                    if let (Some(now), Some(total)) = (now, total) {
                        told(now.min(total), Some(total));
                    }
                }
            }
            moved.elapsed() < self.limits.standstill
        })
        .await
    }

    pub(super) fn start(&self, words: &[&OsStr]) -> Result<Running, Error> {
        let command = self.shown(words);
        tracing::debug!(command, "run");
        let failed = |source: io::Error| {
            Error::new(Kind::NoProgram, Effect::None, format!("`{command}` cannot be started"))
                .with_source(source)
        };
        let output = || Output::new(self.limits.output).map_err(failed);
        let (stdout, stderr) = (output()?, output()?);
        let spawn = |program: &Path| {
            Command::new(program)
                .args(words)
                .env("LC_ALL", "C")
                .env_remove("LANGUAGE")
                .stdin(Stdio::null())
                .stdout(stdout.stdio()?)
                .stderr(stderr.stdio()?)
                // A key at the terminal ends the caller, who has to put a guest back; not xl, half-way.
                .process_group(0)
                // A pause that nobody waits for any more would come after the look that lets the guest go on.
                .kill_on_drop(words.first().is_some_and(|word| *word == "pause"))
                .spawn()
        };
        let spawned = match spawn(&self.path) {
            // cron and its like leave the directories of the administrator's programs out of PATH.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.components().count() == 1 => {
                let there = SBIN.iter().map(|directory| Path::new(directory).join(&self.path));
                there.map(|program| spawn(&program)).find(Result::is_ok).unwrap_or(Err(error))
            }
            spawned => spawned,
        };
        let child = spawned.map_err(failed)?;
        Ok(Running { command, child, stdout, stderr })
    }

    /// Waits until it ends, or says too much, or `goes_on` no longer: then `None`.
    pub(super) async fn wait(
        &self,
        running: &mut Running,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Option<Ended>, Error> {
        let mut pause = PAUSE;
        loop {
            match tokio::time::timeout(pause, running.child.wait()).await {
                Ok(Ok(status)) => {
                    goes_on();
                    let limit = usize::try_from(self.limits.output).unwrap_or(usize::MAX);
                    let (stdout, stderr) = (running.stdout.text(limit), running.stderr.text(limit));
                    return Ok(Some(Ended { status, stdout, stderr }));
                }
                Ok(Err(source)) => {
                    let message = format!("`{}` cannot be waited for", running.command);
                    return Err(Error::new(Kind::Failed, Effect::Unknown, message).with_source(source));
                }
                Err(_) => pause = (pause + pause / 8).min(LONGEST_PAUSE),
            }
            let too_much = running.stdout.length().max(running.stderr.length()) >= self.limits.output;
            if too_much || !goes_on() {
                return Ok(None);
            }
        }
    }

    /// Ends it and all that it has started in its process group.
    async fn kill(&self, child: &mut Child) {
        let Some(group) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else { return };
        // A group that has ended is what is wanted.
        let _ = rustix::process::kill_process_group(group, Signal::TERM);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
        // No other group gets its number while one process of it is left.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
    }

    fn shown(&self, words: &[&OsStr]) -> String {
        let words = words.iter().map(|word| word.to_string_lossy());
        let line: Vec<_> = std::iter::once(self.path.to_string_lossy()).chain(words).collect();
        line.join(" ").escape_debug().to_string()
    }
}

#[async_trait]
impl Toolstack for Xl {
    async fn state(&self, domid: Domid) -> Result<Option<StateFlags>, Error> {
        let number = domid.to_string();
        match self.run(&[OsStr::new("list"), number.as_ref()], Effect::None).await {
            Ok(ended) => list::state(&ended.stdout, domid).map(Some).ok_or_else(|| {
                let message = format!("`{} list {domid}` printed no state", self.path.display());
                Error::new(Kind::Failed, Effect::None, message)
            }),
            Err(error) if error.kind() == Kind::NoSuchDomain => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn configuration(&self, domid: Domid) -> Result<String, Error> {
        let number = domid.to_string();
        let words = [OsStr::new("list"), OsStr::new("-l"), number.as_ref()];
        Ok(self.run(&words, Effect::None).await?.stdout)
    }

    async fn save(&self, domid: Domid, file: &Path, told: Told<'_>) -> Result<Saved, Error> {
        let number = domid.to_string();
        let words = [OsStr::new("save"), OsStr::new("-p"), number.as_ref(), file.as_os_str()];
        let mut since = Instant::now();
        let mut begun = false;
        let mut running = self.start(&words)?;
        let size = || fs::metadata(file).ok().map(|of| of.len());
        // From here on libxl asks the guest to stand still.
        let begins = |said: &str| {
            if !begun && said.contains("info: Saving domain") {
                (begun, since) = (true, Instant::now());
            }
        };
        let moved = self.move_memory(&mut running, None, size, told, begins).await;
        if !matches!(moved, Ok(Some(_))) {
            self.end_save(file).await?;
        }
        let ended = running.ended(moved, Effect::Unknown)?;
        if ended.status.success() {
            return Ok(Saved { since });
        }
        Err(failure(&running.command, &ended, Effect::Unknown))
    }

    async fn saves_live(&self, kind: GuestKind) -> Result<bool, Error> {
        let said = self.run(&[OsStr::new("info")], Effect::None).await?.stdout;
        Ok(recognise::saves_live(&said, kind))
    }

    async fn save_live(
        &self,
        domid: Domid,
        file: &Path,
        told: Told<'_>,
    ) -> Result<(Instant, Box<dyn Suspended>), Error> {
        let (since, suspended) = self.take_what_it_sends(domid, file, told).await?;
        Ok((since, Box::new(suspended)))
    }

    /// libxl's helper, which does the saving, is made to fail: then xl lets the guest go on. To end xl itself would leave the
    /// guest suspended, which no command of xl 4.17 undoes.
    async fn end_save(&self, file: &Path) -> Result<bool, Error> {
        let savers = process::that_save_into(file).map_err(|source| {
            let message = format!("whether xl saves into {} still cannot be told", file.display());
            Error::new(Kind::Failed, Effect::Unknown, message).with_source(source)
        })?;
        if savers.is_empty() {
            return Ok(false);
        }
        let start = Instant::now();
        let mut told = Vec::new();
        let mut harder = [(self.limits.patience, Signal::TERM), (self.limits.patience * 2, Signal::KILL)]
            .into_iter()
            .peekable();
        while savers.iter().any(process::lives) {
            for helper in process::helpers_of(&savers, file) {
                if !told.contains(&helper) {
                    tracing::debug!(pid = helper.pid, "the save is ended");
                    process::signal(&helper, Signal::TERM);
                    // A helper that is stopped (SIGSTOP) does not hear of it before it goes on.
                    process::signal(&helper, Signal::CONT);
                    told.push(helper);
                }
            }
            if let Some((_, signal)) = harder.next_if(|(after, _)| start.elapsed() >= *after) {
                savers.iter().chain(&told).for_each(|saver| process::signal(saver, signal));
            }
            if start.elapsed() > self.limits.patience * 2 + Duration::from_secs(5) {
                let pids: Vec<String> = savers.iter().map(|saver| saver.pid.to_string()).collect();
                let message = format!("xl, which saves into {}, does not end", file.display());
                let source = format!("process {} outlives SIGKILL", pids.join(", "));
                return Err(Error::new(Kind::TimedOut, Effect::Unknown, message).with_source(source));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(true)
    }

    async fn restore(&self, file: &Path, told: Told<'_>) -> Result<(), Error> {
        let words = [OsStr::new("restore"), OsStr::new("-p"), file.as_os_str()];
        let mut running = self.start(&words)?;
        let total = fs::metadata(file).ok().map(|of| of.len());
        let leader = running.child.id();
        let how_far = || process::position(leader?, file);
        let moved = self.move_memory(&mut running, total, how_far, told, |_| {}).await;
        if !matches!(moved, Ok(Some(_))) {
            self.kill(&mut running.child).await;
        }
        let ended = running.ended(moved, Effect::Unknown)?;
        if ended.status.success() { Ok(()) } else { Err(failure(&running.command, &ended, Effect::Unknown)) }
    }

    async fn create(&self, configuration: &Path) -> Result<(), Error> {
        let words = [OsStr::new("create"), OsStr::new("-p"), configuration.as_os_str()];
        self.run(&words, Effect::Unknown).await.map(drop)
    }

    async fn pause(&self, domid: Domid) -> Result<(), Error> {
        let number = domid.to_string();
        self.run(&[OsStr::new("pause"), number.as_ref()], Effect::Unknown).await.map(drop)
    }

    async fn unpause(&self, domid: Domid) -> Result<(), Error> {
        let number = domid.to_string();
        self.run(&[OsStr::new("unpause"), number.as_ref()], Effect::Unknown).await.map(drop)
    }

    async fn destroy(&self, domid: Domid) -> Result<(), Error> {
        let number = domid.to_string();
        self.run(&[OsStr::new("destroy"), number.as_ref()], Effect::Unknown).await.map(drop)
    }
}

impl Running {
    /// How it ended; the error of one that is overdue, or could not be waited for, once that has been ended.
    pub(super) fn ended(&self, waited: Result<Option<Ended>, Error>, effect: Effect) -> Result<Ended, Error> {
        waited?.ok_or_else(|| self.overdue(effect))
    }

    pub(super) fn overdue(&self, effect: Effect) -> Error {
        let said = recognise::essence(&self.stderr.text(64 << 10));
        let message = format!("`{}` did not end in time, and was ended", self.command);
        let error = Error::new(Kind::TimedOut, effect, message);
        if said.is_empty() { error } else { error.with_source(said) }
    }
}

/// The error of a command that ended with another status than 0. What certainly failed before an effect has none.
pub(super) fn failure(command: &str, ended: &Ended, effect: Effect) -> Error {
    let kind = recognise::kind(&ended.stderr);
    let effect = if matches!(kind, Kind::NoXen | Kind::NoSuchDomain) { Effect::None } else { effect };
    let how = match ended.status.code() {
        Some(code) => format!("ended with status {code}"),
        None => format!("was ended by {}", ended.status),
    };
    let said = recognise::essence(&ended.stderr);
    let error = Error::new(kind, effect, format!("`{command}` {how}"));
    if said.is_empty() { error } else { error.with_source(said) }
}
