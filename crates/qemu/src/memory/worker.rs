//! Reading and writing of files on a thread of its own, and watching it from the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

/// What a thread and its watcher have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    bytes: AtomicU64,
    cancelled: AtomicBool,
}

impl Shared {
    /// So many bytes were moved.
    pub(super) fn set_moved(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes were moved.
    pub(super) fn moved(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// A thread that works on files. Dropped, it is told to end, and not waited for.
#[derive(Debug)]
pub(super) struct Worker<T> {
    shared: Arc<Shared>,
    done: oneshot::Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts it.
    pub(super) fn start(work: impl FnOnce(&Shared) -> T + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (send, done) = oneshot::channel();
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("xlsnap-memory".to_owned()).spawn(move || {
            // Whoever waits may have gone.
            let _ = send.send(work(&theirs));
        })?;
        Ok(Self { shared, done, thread: Some(thread) })
    }

    pub(super) fn moved(&self) -> u64 {
        self.shared.moved()
    }

    /// Waits until it has ended, for `wait` at most: what it made.
    ///
    /// # Cancel safety
    /// It may be dropped and called again.
    pub(super) async fn within(&mut self, wait: Duration) -> Option<T> {
        let result = tokio::time::timeout(wait, &mut self.done).await.ok()?;
        if let Some(thread) = self.thread.take() {
            // It has sent its last word.
            let _ = thread.join();
        }
        Some(result.expect("the thread sends before it ends, and does not panic"))
    }

    /// Waits until it has ended, and calls `tick` now and then.
    pub(super) async fn done(&mut self, mut tick: impl FnMut(u64)) -> T {
        /// How often people are told.
        const TICK: Duration = Duration::from_millis(100);
        loop {
            if let Some(result) = self.within(TICK).await {
                return result;
            }
            tick(self.moved());
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }
}
