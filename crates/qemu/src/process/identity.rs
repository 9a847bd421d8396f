//! Which process is meant: never a pid alone, for the kernel gives pids out again.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whether a file of `/proc/PID` cannot be opened or read because the process is there no more: it may end between the two.
pub fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// One process of this machine, and no other one ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// When the kernel made it, in clock ticks since the boot (proc_pid_stat(5), field 22).
    pub start_ticks: u64,
    /// The boot (random(4), `boot_id`).
    pub boot: Uuid,
}

impl Identity {
    /// The process that has this pid now; `None` when there is none, or it has ended.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let text = match fs::read(format!("/proc/{pid}/stat")) {
            Ok(text) => text,
            Err(e) if has_ended(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let Some(start_ticks) = start_of_living(&text) else { return Ok(None) };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = Uuid::try_parse(boot.trim()).map_err(io::Error::other)?;
        Ok(Some(Self { pid, start_ticks, boot }))
    }

    /// Whether it still lives. One that has ended, and that its parent has not asked about yet, does not.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub fn lives(&self) -> io::Result<bool> {
        Ok(Self::of(self.pid)? == Some(*self))
    }

    /// The session that it is in (setsid(2)): the pid of the process that began it.
    pub(super) fn session(&self) -> Option<u32> {
        let stat = fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        fields_of(&stat)?.nth(3)?.parse().ok()
    }

    /// Sends it a signal; `false` when it has ended. Never to another process: the pid is held by a pidfd while it is looked
    /// which process has it.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
        let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        if !self.lives()? {
            return Ok(false);
        }
        match rustix::process::pidfd_send_signal(&process, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The start of a process from its `stat`; `None` for one that has ended, and for what is no `stat`.
///
/// The first thread of a process may be a zombie (`Z`) while others still end, and hold its files open: the process has ended
/// when it is the only one left.
pub(super) fn start_of_living(stat: &[u8]) -> Option<u64> {
    let mut fields = fields_of(stat)?;
    let state = fields.next()?;
    // The state is field 3: field 20 is the 16th after it, and field 22 the second after that.
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    let ended = matches!(state, "Z" | "X" | "x") && threads <= 1;
    (!ended).then_some(start)
}

/// The fields of a `stat` from the third on.
fn fields_of(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    // The second field is the program's name in parentheses, with anything in it, parentheses too.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace())
}
