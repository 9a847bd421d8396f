//! The processes of one test, wherever they went: a QEMU in a session of its own too. A variable of the environment marks them,
//! which each process hands on to those that it starts.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const VARIABLE: &str = "XTASK_TEST";

/// What the processes of one test have in their environment, and no others.
#[derive(Debug)]
pub(super) struct Mark(String);

impl Mark {
    /// The mark of test `number` of this run.
    pub(super) fn new(number: usize) -> Self {
        Self(format!("{}-{number}", std::process::id()))
    }

    /// Marks what `command` will start.
    pub(super) fn put_on(&self, command: &mut Command) {
        command.env(VARIABLE, &self.0);
    }

    /// Kills every process that has the mark.
    pub(super) fn kill_all(&self) {
        let mut killed = BTreeSet::new();
        // Once more until there is no other: one that was being started when the rest was looked at.
        loop {
            let before = killed.len();
            let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            killed.extend(pids.filter(|pid| self.kill(*pid).is_some()));
            if killed.len() == before {
                return;
            }
        }
    }

    /// Kills the process if it has the mark. One that ends meanwhile, and one of another user, has none.
    fn kill(&self, pid: i32) -> Option<()> {
        // From here on the number means this process and no later one.
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let marked = format!("{VARIABLE}={}", self.0);
        if !environment.split(|byte| *byte == 0).any(|variable| variable == marked.as_bytes()) {
            return None;
        }
        pidfd_send_signal(process, Signal::KILL).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_process_in_a_session_of_its_own_is_killed_and_no_other() {
        let start = |mark: &Mark| {
            let mut command = Command::new("setsid");
            command.args(["--wait", "sh", "-c", "echo; exec sleep 600"]).stdout(Stdio::piped());
            mark.put_on(&mut command);
            let mut child = command.spawn().unwrap();
            // When it has said something, it is there.
            let mut said = [0];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
            child
        };
        let (ours, theirs) = (Mark("ours".into()), Mark("theirs".into()));
        let mut our_child = start(&ours);
        let mut their_child = start(&theirs);
        ours.kill_all();
        our_child.wait().unwrap();
        // Its output ends when no process has it open any more: the one in the other session either.
        std::io::Read::read_to_end(our_child.stdout.as_mut().unwrap(), &mut Vec::new()).unwrap();
        assert!(their_child.try_wait().unwrap().is_none());
        theirs.kill_all();
        their_child.wait().unwrap();
    }
}
