//! A blocking QMP client of a few lines, for fixtures only.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::process::DEADLINE;

/// A QMP session for preparing and examining; independent of the client under test.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to a monitor that listens, and negotiates.
    ///
    /// # Errors
    /// No process listens, or it ends before the greeting.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        let greeting = monitor.read()?;
        assert!(greeting.get("QMP").is_some(), "no greeting: {greeting}");
        monitor.must("qmp_capabilities", json!({}));
        Ok(monitor)
    }

    /// Executes a command: its result, or QEMU's `desc`.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let mut request = json!({"execute": command, "arguments": arguments}).to_string();
        request.push('\n');
        self.stream.get_mut().write_all(request.as_bytes()).expect("QEMU takes the command");
        loop {
            let mut reply = self.read().expect("QEMU answers before the deadline");
            if let Some(result) = reply.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = reply.get("error") {
                return Err(error["desc"].as_str().expect("an error has a desc").to_owned());
            }
        }
    }

    /// Executes a command that has to succeed.
    pub fn must(&mut self, command: &str, arguments: Value) -> Value {
        let result = self.execute(command, arguments);
        result.unwrap_or_else(|desc| panic!("{command}: {desc}"))
    }

    /// Executes a command that may end the process: no reply is waited for.
    pub(super) fn send_last(&mut self, command: &str) {
        let request = format!("{}\n", json!({"execute": command}));
        // A process that has gone already has done what is asked.
        let _ = self.stream.get_mut().write_all(request.as_bytes());
    }

    fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
