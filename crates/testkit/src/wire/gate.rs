//! Where a script and a test wait for each other.

use tokio::sync::watch;

/// Closed at first, then open for good. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens it.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is open.
    ///
    /// # Cancel safety
    /// It has no effect.
    pub async fn passed(&self) {
        let mut state = self.0.subscribe();
        state.wait_for(|open| *open).await.expect("this gate holds the sender");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
