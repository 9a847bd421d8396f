//! What a session is told at its start.

use std::time::Duration;

/// The settings of a [`Session`](super::Session).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// What the other side is called in messages: the path of its socket.
    pub peer: String,
    /// A number that no other session of the same QEMU has; it stands in the id of each command.
    pub nonce: u64,
    /// How long to wait for the greeting, and then again for the answer to `qmp_capabilities`.
    pub greeting_timeout: Duration,
    /// The longest message, in bytes, in either direction.
    pub max_message: usize,
}

impl Config {
    /// Enough for `query-block` with thousands of snapshots; the schema of QEMU 7.2 has 0.2 MiB.
    pub const DEFAULT_MAX_MESSAGE: usize = 16 << 20;
    /// QEMU greets within a millisecond unless another client holds the monitor or its main loop is busy.
    pub const DEFAULT_GREETING_TIMEOUT: Duration = Duration::from_secs(5);

    /// The default settings for a session with `peer`.
    pub fn new(peer: impl Into<String>, nonce: u64) -> Self {
        Self {
            peer: peer.into(),
            nonce,
            greeting_timeout: Self::DEFAULT_GREETING_TIMEOUT,
            max_message: Self::DEFAULT_MAX_MESSAGE,
        }
    }
}
