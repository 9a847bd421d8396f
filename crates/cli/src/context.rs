//! What every command needs: the options of the command line, the host, and where the answer goes.

use std::future::Future;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use xlsnap::{Call, Host, Options, Progress, RootInputs, Selector};
use xlsnap_types::model::DomainName;

use crate::args::{Global, Monitor, OneDomain};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::style::Style;
use crate::render::text::bytes as size;
use crate::signals::Signals;

/// The options of the command line.
pub(crate) struct Context {
    global: Global,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self { global }
    }

    /// Whether answers are for programs.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// The host at the root that the command line or the environment names, which has to be there: a misspelt one would look
    /// like a host without snapshots. The usual root is made by the first command that writes, and until then is an empty one.
    pub(crate) fn host(&self) -> Result<Host, Failure> {
        self.host_at(true)
    }

    /// The same for a command that makes the root where there is none.
    pub(crate) fn host_to_write(&self) -> Result<Host, Failure> {
        self.host_at(false)
    }

    fn host_at(&self, must_be_there: bool) -> Result<Host, Failure> {
        let given = self.global.root.is_some()
            || std::env::var_os("XLSNAP_ROOT").is_some_and(|root| !root.is_empty());
        let root = xlsnap::default_root(&RootInputs {
            option: self.global.root.clone(),
            xlsnap_root: std::env::var_os("XLSNAP_ROOT"),
            xen_host: is_xen_host(),
            superuser: rustix::process::geteuid().is_root(),
            xdg_state_home: std::env::var_os("XDG_STATE_HOME"),
            home: std::env::var_os("HOME"),
        })?;
        let root = absolute(&root)?;
        is_root(&root, given && must_be_there)?;
        let mut options = Options::new(root);
        options.qemu_img = self.global.qemu_img.clone();
        options.lock_wait = self.global.wait;
        Ok(Host::new(options))
    }

    /// What watches an operation and may interrupt it. Dropping it clears the status line.
    pub(crate) fn watch(&self) -> Watch {
        // Steps are shown on a terminal, not to programs and in files.
        let watched = !self.json() && io::stderr().is_terminal();
        Watch { line: watched.then(StatusLine::new), signals: Signals::default() }
    }

    /// Runs a future to its end on this thread.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|e| Failure::new(Exit::Failed, "the event loop cannot be started").because(&e))?;
        Ok(runtime.block_on(future))
    }

    /// Writes the answer: `json` for programs, by `human` for people.
    pub(crate) fn answer<T: Serialize>(
        &self,
        json: &T,
        human: impl FnOnce(&mut dyn Write, Style) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        if self.json() {
            serde_json::to_writer(&mut out, json)?;
            writeln!(out)?;
        } else {
            human(&mut out, Style::of_stdout())?;
        }
        out.flush()?;
        Ok(())
    }

    /// As [`Context::answer`], when what the answer tells has been done: to lose the answer does not undo it.
    pub(crate) fn done<T: Serialize>(
        &self,
        json: &T,
        human: impl FnOnce(&mut dyn Write, Style) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.answer(json, human).map_err(Failure::though_done)
    }
}

/// Whether this is a Xen host's control domain.
fn is_xen_host() -> bool {
    std::fs::read_to_string("/proc/xen/capabilities").is_ok_and(|words| words.contains("control_d"))
}

/// Refuses a root that cannot be read, and one that is not there although it has to be.
fn is_root(root: &Path, must_be_there: bool) -> Result<(), Failure> {
    let Err(error) = std::fs::read_dir(root) else { return Ok(()) };
    let path = root.display();
    match error.kind() {
        io::ErrorKind::NotFound if !must_be_there => Ok(()),
        io::ErrorKind::NotFound => Err(Failure::new(Exit::NotFound, format!("there is no directory {path}"))
            .because(&error)
            .advise("give the directory of records by --root or XLSNAP_ROOT; `xlsnap domain add` makes one")),
        _ => Err(Failure::new(Exit::Refused, format!("the directory of records {path} cannot be read"))
            .because(&error)
            .advise(format!("run as the user who owns it: ls -ld {path}"))),
    }
}

/// The path from `/` on; a relative one starts at the current directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::usage(format!("the path {} means nothing", path.display())).because(&e))
}

/// The absolute path, as text: it is recorded, and given to QEMU, which takes only UTF-8.
pub(crate) fn absolute_text(path: &str) -> Result<String, Failure> {
    let path = absolute(path.as_ref())?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::usage(format!("the path {} is no UTF-8 text", path.to_string_lossy())))
}

/// The domain that arguments name.
pub(crate) fn selector(domain: &DomainName, monitor: &Monitor) -> Result<Selector, Failure> {
    let qmp = monitor.qmp.as_deref().map(absolute).transpose()?;
    Ok(Selector::new(domain.clone()).at(qmp))
}

impl OneDomain {
    pub(crate) fn selector(&self) -> Result<Selector, Failure> {
        selector(&self.domain, &self.monitor)
    }
}

/// What watches an operation on this terminal, and may interrupt it.
pub(crate) struct Watch {
    line: Option<StatusLine>,
    signals: Signals,
}

impl Watch {
    /// An operation's call.
    pub(crate) fn call(&self) -> Call<'_> {
        let call = Call::new().interrupted_by(&self.signals);
        match &self.line {
            Some(line) => call.watched_by(line),
            None => call,
        }
    }
}

/// A line on the terminal that says what is done, once it takes a while.
struct StatusLine {
    start: Instant,
    shown: std::sync::atomic::AtomicBool,
    /// The step that goes on, and when its bytes were last shown.
    now: Mutex<(String, Instant)>,
}

impl StatusLine {
    /// A line that is gone sooner cannot be read.
    const QUIET: Duration = Duration::from_millis(300);

    /// A line that changes faster cannot be read.
    const REFRESH: Duration = Duration::from_millis(100);

    fn new() -> Self {
        let start = Instant::now();
        Self { start, shown: false.into(), now: Mutex::new((String::new(), start)) }
    }

    fn show(&self, line: &str) {
        if self.start.elapsed() >= Self::QUIET {
            self.shown.store(true, std::sync::atomic::Ordering::Relaxed);
            // Standard error that does not take it is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }
}

impl Progress for StatusLine {
    fn step(&self, number: usize, total: usize, what: &str) {
        let line = format!("[{number}/{total}] {}", crate::render::text::visible(what));
        self.show(&line);
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0 = line;
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.1.elapsed() < Self::REFRESH {
            return;
        }
        now.1 = Instant::now();
        let line = match total.filter(|total| *total > 0) {
            Some(total) => {
                let percent = done.min(total).saturating_mul(100) / total;
                format!("{}: {} of {} ({percent} %)", now.0, size(done), size(total))
            }
            None => format!("{}: {}", now.0, size(done)),
        };
        self.show(&line);
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if *self.shown.get_mut() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
