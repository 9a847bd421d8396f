//! This machine's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use xlsnap_orchestrator::Clock;

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
