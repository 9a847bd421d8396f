//! A blocking QMP client of a few lines: what a client at least has to do for a snapshot, to compare with.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Failure;

/// Longer than QEMU takes for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open QMP session.
#[derive(Debug)]
pub(super) struct Monitor {
    stream: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Monitor {
    /// Connects to a QEMU that listens, and negotiates.
    pub(super) fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(lost)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
        let mut monitor = Self { stream: BufReader::new(stream), events: Vec::new() };
        monitor.read()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Executes a command, and gives what it returned.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Failure> {
        let request = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        self.stream.get_mut().write_all(request.as_bytes()).map_err(lost)?;
        loop {
            // Events are between the replies.
            let mut reply = self.read()?;
            if reply.get("event").is_some() {
                self.events.push(reply);
                continue;
            }
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = reply.get("error") {
                return Err(Failure(format!("QEMU refused {command}: {}", error["desc"])));
            }
        }
    }

    /// The events that came since this was asked last.
    pub(super) fn events(&mut self) -> Result<Vec<Value>, Failure> {
        // Whatever happened before is told before this is answered.
        self.execute("query-status", &json!({}))?;
        Ok(std::mem::take(&mut self.events))
    }

    /// How long the guest stood still since this was asked last, in milliseconds: QEMU's events say when.
    pub(super) fn pause(&mut self) -> Result<f64, Failure> {
        let mut stopped = None;
        let mut still = 0.0;
        for event in self.events()? {
            let at = event["timestamp"]["seconds"].as_f64().unwrap_or_default() * 1e3
                + event["timestamp"]["microseconds"].as_f64().unwrap_or_default() / 1e3;
            match event["event"].as_str() {
                Some("STOP") => stopped = Some(at),
                Some("RESUME") => still += stopped.take().map_or(0.0, |stopped| at - stopped),
                _ => {}
            }
        }
        if still == 0.0 {
            return Err(Failure("QEMU's events tell of no pause".into()));
        }
        Ok(still)
    }

    fn read(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(Failure("QEMU ended".into())),
            Ok(_) => serde_json::from_str(&line).map_err(lost),
            Err(e) => Err(lost(e)),
        }
    }
}

fn lost(why: impl std::fmt::Display) -> Failure {
    Failure(format!("QEMU's monitor: {why}"))
}
