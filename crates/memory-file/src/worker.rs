//! Reading and writing of files on a thread of its own, and watching it from the runtime.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::{Effect, Error};

/// How often people are told how far a thread is.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// What a thread and its watcher have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    bytes: AtomicU64,
    cancelled: AtomicBool,
}

impl Shared {
    /// So many bytes were moved.
    pub(crate) fn set_moved(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn moved(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the watcher has gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// [`io::ErrorKind::Interrupted`] when the watcher has gone.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        if self.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// A thread that works on files. Dropped, it is told to end, and not waited for.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    shared: Arc<Shared>,
    done: oneshot::Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts it, for `file`.
    pub(crate) fn start(
        file: &Path,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let (send, done) = oneshot::channel();
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("xlsnap-memory".to_owned()).spawn(move || {
            // The watcher may have gone.
            let _ = send.send(work(&theirs));
        });
        let thread =
            thread.map_err(|e| Error::io(file, "cannot be worked on: no thread can be started", e))?;
        Ok(Self { shared, done, thread: Some(thread) })
    }

    /// Waits until it has ended: what it made.
    async fn wait(mut self) -> T {
        let result = (&mut self.done).await;
        self.join(result)
    }

    fn join(&mut self, result: Result<T, oneshot::error::RecvError>) -> T {
        if let Some(thread) = self.thread.take() {
            // It has sent its last word.
            let _ = thread.join();
        }
        result.expect("the thread sends before it ends, and does not panic")
    }

    /// Waits until it has ended, for `wait` at most: what it made.
    ///
    /// # Cancel safety
    /// It may be dropped and called again.
    pub(crate) async fn within(&mut self, wait: Duration) -> Option<T> {
        let result = tokio::time::timeout(wait, &mut self.done).await.ok()?;
        Some(self.join(result))
    }

    /// How many bytes were moved.
    pub(crate) fn moved(&self) -> u64 {
        self.shared.moved()
    }

    /// Waits until it has ended, and tells `progress` now and then how many bytes were moved.
    pub(crate) async fn done(&mut self, mut progress: impl FnMut(u64)) -> T {
        loop {
            if let Some(result) = self.within(TICK).await {
                return result;
            }
            progress(self.moved());
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread of its own, and waits for it.
pub(crate) async fn run<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    Worker::start(file, work)?.wait().await
}

/// The error of a thread that was told to end before it changed anything.
pub(crate) fn cancelled(file: &Path) -> Error {
    Error::io(file, "is not worked on any more", io::ErrorKind::Interrupted.into()).with_effect(Effect::None)
}
