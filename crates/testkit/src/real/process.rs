//! A child process that ends with its guard, and waiting with a deadline.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Monitor;

/// How long anything here may take before the test fails; generous, for machines under load.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives something.
///
/// # Panics
/// When it does not within [`DEADLINE`]; `what` says what was waited for.
pub fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in the file `log`.
    pub(super) fn start(mut command: Command, log: PathBuf) -> Self {
        let out = File::create(&log).expect("the scratch directory takes a new file");
        let err = out.try_clone().expect("a file descriptor can be doubled");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|e| panic!("{:?} is installed: {e}", command.get_program()));
        Self { child, log }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Connects to its monitor, once it listens there.
    pub(super) fn monitor(&mut self, socket: &Path) -> Monitor {
        wait_until("a process listens on its QMP socket", || {
            if let Some(status) = self.ended() {
                panic!("it ended with {status}: {}", self.said());
            }
            // QEMU listens before it has opened its disks, and may end when it does.
            Monitor::connect(socket).ok()
        })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> ExitStatus {
        wait_until("a process ends", || self.ended())
    }

    /// Kills it (`SIGKILL`) and waits for its end.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.wait();
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended can be neither killed nor waited for again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
