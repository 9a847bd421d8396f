//! The host in the machine, by ssh.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Release;
use crate::command::command;
use crate::{Done, Failure};

/// What ssh itself ends with when it did not get through.
pub(super) const NOT_REACHED: i32 = 255;

/// What `timeout` ends with when it had to end the program.
pub(super) const TIMED_OUT: i32 = 124;

/// How to reach it, and what it is.
#[derive(Debug, Clone)]
pub(super) struct Dom0 {
    pub(super) release: Release,
    pub(super) key: PathBuf,
    pub(super) port: u16,
}

impl Dom0 {
    /// What a person would type.
    pub(super) fn line(&self) -> String {
        format!("ssh -i {} -p {} root@127.0.0.1", self.key.display(), self.port)
    }

    /// `script` for its shell, without an input, ended after `limit`.
    pub(super) fn shell(&self, limit: Duration, script: &str) -> Command {
        let limit = format!("{}s", limit.as_secs());
        let mut ssh = command("timeout", ["--kill-after=10s", &limit, "ssh"]);
        self.options(&mut ssh);
        ssh.args(["-o", "BatchMode=yes", "root@127.0.0.1", script]);
        ssh
    }

    /// Runs `words` there, or a shell, on the terminal that we have.
    pub(super) fn interactive(&self, words: &[String]) -> Done {
        let mut ssh = Command::new("ssh");
        self.options(&mut ssh);
        let status = ssh.arg("root@127.0.0.1").args(words).status();
        match status.map_err(|e| Failure(format!("cannot run ssh: {e}")))? {
            status if status.success() => Ok(()),
            status => Err(Failure(format!("it ended with {status}"))),
        }
    }

    fn options(&self, ssh: &mut Command) {
        // Nothing of the user's configuration, and no host key to remember: the next machine at this port is another.
        ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15"]);
        ssh.arg("-i").arg(&self.key).args(["-p", &self.port.to_string()]);
    }
}
