//! The guest can tell a snapshot that is of one instant from one that is not. All is done by hand here, so that what xlsnap
//! does can be measured by it.
#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod file_system;
mod hand;
mod memory;
mod power;

use std::time::Duration;

/// For a guest to boot or to count a little, on a machine under load.
const DEADLINE: Duration = Duration::from_secs(120);

/// How much further a guest counts until it has looked at everything that it has: at its whole buffer, and at each place of its
/// disks.
const A_ROUND: u64 = 20;
