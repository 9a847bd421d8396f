//! The handle of a host.

use std::ffi::{c_char, c_int, c_void};
use std::fmt::Display;
use std::ptr;
use std::time::Duration;

use xlsnap::{Call, Host, Options, Progress};

use crate::failure::{XlsnapError, answer, for_c};
use crate::options::{XlsnapHostOptions, read};
use crate::runtime::default_root;
use crate::string::text;

/// A directory of records and domain files, and how its domains are reached. Any thread may use it, several at once.
pub struct XlsnapHost {
    pub(crate) host: Host,
    watcher: Option<Watcher>,
}

impl XlsnapHost {
    /// A call of an operation, told to the host's watcher.
    pub(crate) fn call(&self) -> Call<'_> {
        match &self.watcher {
            Some(watcher) => Call::new().watched_by(watcher),
            None => Call::new(),
        }
    }
}

/// A caller's callback as the watcher of a host.
struct Watcher {
    progress: unsafe extern "C" fn(*mut c_void, c_int, c_int, *const c_char),
    data: *mut c_void,
}

// SAFETY: the pointer is only handed back to the caller's own function, in threads in which the caller used the host.
unsafe impl Send for Watcher {}
// SAFETY: the same.
unsafe impl Sync for Watcher {}

impl Progress for Watcher {
    fn step(&self, number: usize, total: usize, what: &str) {
        let number = c_int::try_from(number).unwrap_or(c_int::MAX);
        let total = c_int::try_from(total).unwrap_or(c_int::MAX);
        let what = for_c(what);
        // SAFETY: the program that opened the host promised that this can be called with this argument while it is open.
        unsafe { (self.progress)(self.data, number, total, what.as_ptr()) };
    }

    /// The callback is told steps; a program that draws a bar of bytes looks at the file's size.
    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

/// The version of the library: "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn xlsnap_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Opens a host; nothing is read or made yet. `*host` is to be closed by xlsnap_host_close. `options` may be NULL.
///
/// Returns XLSNAP_STATUS_DONE; XLSNAP_STATUS_INVALID; XLSNAP_STATUS_FAILED when nothing tells where the root is.
///
/// # Safety
/// `options` is NULL or as its `size` says, with strings that are NULL or NUL-terminated; `host` points to room for a pointer; `error`
/// is NULL or does so too. The progress callback can be called as long as the host is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_host_open(
    options: *const XlsnapHostOptions,
    host: *mut *mut XlsnapHost,
    error: *mut *mut XlsnapError,
) -> c_int {
    let open = || {
        if host.is_null() {
            return Err(XlsnapError::invalid("there is no room for the host: a NULL pointer"));
        }
        // SAFETY: not NULL, so the caller gave room for a pointer.
        unsafe { host.write(ptr::null_mut()) };
        // SAFETY: the caller's promise.
        let given = unsafe { read(options)? };
        // SAFETY: the caller's promise.
        let (root, qemu_img) =
            unsafe { (argument("root", given.root)?, argument("qemu_img", given.qemu_img)?) };
        let root = match root {
            Some(root) => std::path::absolute(root)
                .map_err(|_| XlsnapError::invalid("the root is no path: it is empty"))?,
            None => default_root()?,
        };
        let mut options = Options::new(root);
        if let Some(qemu_img) = qemu_img {
            options.qemu_img = qemu_img.into();
        }
        if given.lock_wait_ms != 0 {
            options.lock_wait = Duration::from_millis(u64::try_from(given.lock_wait_ms).unwrap_or(0));
        }
        let data = given.progress_data;
        let watcher = given.progress.map(|progress| Watcher { progress, data });
        let opened = XlsnapHost { host: Host::new(options), watcher };
        // SAFETY: not NULL, as above.
        unsafe { host.write(Box::into_raw(Box::new(opened))) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, open) }
}

/// Closes a host that no thread uses any more. NULL is nothing to close.
///
/// # Safety
/// `host` is NULL or was given by xlsnap_host_open and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_host_close(host: *mut XlsnapHost) {
    if !host.is_null() {
        // SAFETY: it comes from Box::into_raw in `xlsnap_host_open`.
        drop(unsafe { Box::from_raw(host) });
    }
}

/// An optional text of the caller's; `None` for NULL.
///
/// # Safety
/// `string` is NULL or NUL-terminated.
pub(crate) unsafe fn argument<'a>(
    what: impl Display,
    string: *const c_char,
) -> Result<Option<&'a str>, XlsnapError> {
    // SAFETY: the caller's promise.
    unsafe { text(string) }.map_err(|_| XlsnapError::invalid(&format!("{what} is not UTF-8")))
}
