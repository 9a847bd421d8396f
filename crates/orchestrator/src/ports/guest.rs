//! The domain's guest.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use xlsnap_types::model::StateFlags;

use crate::PortError;

/// Whether the domain is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestState {
    /// No process has its disks.
    Off,
    /// A storage daemon has its disks; there is no guest.
    Serving,
    /// It is on, with these flags.
    On(StateFlags),
}

impl GuestState {
    /// Whether there is a guest, running or not.
    pub fn is_on(self) -> bool {
        matches!(self, Self::On(_))
    }

    /// What the guest does; `None` when there is none.
    pub fn run(self) -> Option<Run> {
        match self {
            Self::On(flags) => Some(Run::if_it(flags.can_run())),
            Self::Off | Self::Serving => None,
        }
    }
}

/// Whether a guest runs, or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// It runs.
    Runs,
    /// It stands still, paused.
    Waits,
}

impl Run {
    /// It runs if this is so, else it waits.
    pub fn if_it(runs: bool) -> Self {
        if runs { Self::Runs } else { Self::Waits }
    }

    /// Whether it runs.
    pub fn runs(self) -> bool {
        self == Self::Runs
    }
}

/// The domain's guest.
///
/// # Cancel safety
/// It only looks, so its futures may be dropped at any time.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Its state now.
    async fn state(&self) -> Result<GuestState, PortError>;
}

/// Stopping a guest that is on, and letting it run.
///
/// # Cancel safety
/// A future that is dropped leaves it stopped or running: ask the state.
#[async_trait]
pub trait Pause: Send + Sync {
    /// Stops its processors. One that stands still is stopped.
    async fn stop(&self) -> Result<(), PortError>;

    /// Lets it run. One that runs is no error.
    async fn resume(&self) -> Result<(), PortError>;

    /// Resets it, as its reset button does: what it held in memory is lost. Whether it runs stays as it is.
    async fn reset(&self) -> Result<(), PortError>;
}
