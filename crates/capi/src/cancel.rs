//! Cancelling an operation from another thread or a signal handler.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How soon a cancellation is seen.
const LOOK: Duration = Duration::from_millis(20);

/// A flag that ends an operation. One may be given to several calls; once set it stays set.
pub struct XlsnapCancel {
    requested: AtomicBool,
}

/// A new one, to be freed by xlsnap_cancel_free.
#[unsafe(no_mangle)]
pub extern "C" fn xlsnap_cancel_new() -> *mut XlsnapCancel {
    Box::into_raw(Box::new(XlsnapCancel { requested: AtomicBool::new(false) }))
}

/// Asks the calls that have it to end: from any thread, and from a signal handler. NULL is nothing to ask.
///
/// # Safety
/// `cancel` is NULL or was given by xlsnap_cancel_new and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_cancel_request(cancel: *const XlsnapCancel) {
    // SAFETY: the caller's promise.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.requested.store(true, Ordering::Relaxed);
    }
}

/// Frees one that no call has any more. NULL is nothing to free.
///
/// # Safety
/// `cancel` is NULL or was given by xlsnap_cancel_new and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_cancel_free(cancel: *mut XlsnapCancel) {
    if !cancel.is_null() {
        // SAFETY: it comes from Box::into_raw in `xlsnap_cancel_new`.
        drop(unsafe { Box::from_raw(cancel) });
    }
}

impl XlsnapCancel {
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

/// Runs `work` until it ends, or `cancel` is requested: then it is dropped where it is, and `None`.
pub(crate) async fn unless_cancelled<T>(
    cancel: Option<&XlsnapCancel>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let Some(cancel) = cancel else { return Some(work.await) };
    let mut work = pin!(work);
    while !cancel.is_requested() {
        if let Ok(done) = tokio::time::timeout(LOOK, &mut work).await {
            return Some(done);
        }
    }
    None
}
