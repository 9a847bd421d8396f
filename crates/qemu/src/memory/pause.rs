//! How long a guest stood still, by QEMU's own clock.

use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::TryRecvError;
use xlsnap_qmp_transport::EventStream;

/// Watches a guest stop and run on.
#[derive(Debug)]
pub(crate) struct Pause {
    events: EventStream,
    /// As QEMU says.
    stopped: Option<u64>,
    resumed: Option<u64>,
    /// As we saw it, for what QEMU does not say.
    asked: Instant,
}

impl Pause {
    /// From now on. `events` has been subscribed to before the guest stops.
    pub(crate) fn new(events: EventStream) -> Self {
        Self { events, stopped: None, resumed: None, asked: Instant::now() }
    }

    /// The guest is about to stop.
    pub(crate) fn begins(&mut self) {
        self.asked = Instant::now();
    }

    /// Whether the guest has run on since it stopped.
    pub(crate) fn is_over(&mut self) -> bool {
        self.look();
        self.resumed.is_some()
    }

    /// How long it was: from the last stop to the first time that it ran on.
    pub(crate) fn length(&mut self) -> Duration {
        self.look();
        match (self.stopped, self.resumed) {
            (Some(stopped), Some(resumed)) if resumed >= stopped => Duration::from_micros(resumed - stopped),
            _ => self.asked.elapsed(),
        }
    }

    fn look(&mut self) {
        loop {
            match self.events.try_recv() {
                Ok(event) if event.name == "STOP" => {
                    (self.stopped, self.resumed) = (event.timestamp_us, None);
                }
                Ok(event) if event.name == "RESUME" && self.resumed.is_none() => {
                    self.resumed = Some(event.timestamp_us.unwrap_or(0));
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}
