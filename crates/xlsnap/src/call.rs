//! One call of an operation: what is told of its progress, and what may end it early.

use std::fmt;

use xlsnap_orchestrator::{Interrupt, Progress};

/// What belongs to one call of an operation and not to the host: two calls at once may have two watchers.
///
/// The default is told to no one, and is not interrupted.
#[derive(Clone, Copy, Default)]
pub struct Call<'a> {
    progress: Option<&'a dyn Progress>,
    pub(crate) interrupt: Option<&'a dyn Interrupt>,
}

impl<'a> Call<'a> {
    /// A call that is told to no one, and is not interrupted.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with each step and its bytes told to `progress`.
    #[must_use]
    pub fn watched_by(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The same, with `interrupt` asked whether a long step (saving memory) is to end early; what was done of it is undone then.
    #[must_use]
    pub fn interrupted_by(mut self, interrupt: &'a dyn Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    pub(crate) fn progress(&self) -> &'a dyn Progress {
        self.progress.unwrap_or(&Silent)
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("watched", &self.progress.is_some())
            .field("interruptible", &self.interrupt.is_some())
            .finish()
    }
}

/// Tells no one.
#[derive(Debug)]
struct Silent;

impl Progress for Silent {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}
