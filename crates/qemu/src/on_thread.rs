//! Work that waits for a disk, away from the caller's other tasks.

use std::thread;

use tokio::sync::oneshot;

/// What `work` gives, done on a thread of its own; `None` where the system has no thread more, and then it was not begun. tokio's
/// `spawn_blocking` panics there.
///
/// # Cancel safety
/// Dropped, the work goes on, and what it gives is lost.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (told, done) = oneshot::channel();
    let begun = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The caller may have gone.
        let _ = told.send(work());
    });
    match begun {
        Ok(_) => Some(done.await.expect("the work does not panic")),
        Err(_) => None,
    }
}
