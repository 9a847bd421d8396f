//! The orchestrator's smallest ports: the clock, and a watcher who does nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use xlsnap_orchestrator::{Clock, Progress};

/// This machine's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn epoch_seconds(&self) -> u64 {
        // A clock that stands before 1970 was never set; then all snapshots are of the epoch.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Nobody watches.
#[derive(Debug)]
pub(crate) struct Unwatched;

impl Progress for Unwatched {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}
