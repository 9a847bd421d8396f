//! A backend's own words for steps.

use async_trait::async_trait;
use serde::Serialize;

use crate::{PortError, Stage};

/// One command that a backend runs or sends, or one change that xlsnap makes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The program with its subcommand, or the monitor's command: `qemu-img snapshot -a`, `QMP stop`. What xlsnap does itself
    /// begins with `xlsnap`.
    pub command: String,
    /// The images and files that it changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl Command {
    /// A command that changes no file by itself.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), files: Vec::new() }
    }

    /// A command that changes this file.
    pub fn on(command: impl Into<String>, file: impl Into<String>) -> Self {
        Self { command: command.into(), files: vec![file.into()] }
    }

    /// A command that changes these files.
    pub fn on_all(command: impl Into<String>, files: impl IntoIterator<Item = String>) -> Self {
        Self { command: command.into(), files: files.into_iter().collect() }
    }
}

/// A backend's own words for the steps of a plan: what it runs or sends for them, when nothing fails.
///
/// # Cancel safety
/// It only looks.
#[async_trait]
pub trait Commands: Send + Sync {
    /// The commands of one stage, in order; looks are not among them. The steps before it are done by then: a process that they
    /// end is gone, and one that they start is there.
    async fn commands(&self, stage: &Stage, before: &[Stage]) -> Result<Vec<Command>, PortError>;
}
