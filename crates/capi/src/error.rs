//! How the design's functions end: libxl's codes, the reason for [`xlsnap_last_error`], and the wall that no panic passes.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, ptr};

use xlsnap::design::Failure;

use crate::failure::{XlsnapEffect, XlsnapError, XlsnapStatus};

/// `ERROR_FAIL` of libxl.
const ERROR_FAIL: c_int = -3;
/// `ERROR_INVAL` of libxl.
const ERROR_INVAL: c_int = -6;
/// `ERROR_DOMAIN_NOTFOUND` of libxl.
pub(crate) const ERROR_DOMAIN_NOTFOUND: c_int = -21;

thread_local! {
    /// The reason of the last failure in this thread; none once a call has succeeded.
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Why one of the design's functions failed, and the code that it returns.
pub(crate) struct Fault {
    code: c_int,
    error: XlsnapError,
}

impl Fault {
    pub(crate) fn new(code: c_int, error: XlsnapError) -> Self {
        Self { code, error }
    }
}

impl From<XlsnapError> for Fault {
    fn from(error: XlsnapError) -> Self {
        let code = if error.status() == XlsnapStatus::Invalid { ERROR_INVAL } else { ERROR_FAIL };
        Self { code, error }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code.number(), error: failure.error.into() }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        XlsnapError::from(error).into()
    }
}

/// Runs the body of a function that returns a code.
pub(crate) fn code(body: impl FnOnce() -> Result<(), Fault>) -> c_int {
    match conclude(body) {
        Ok(()) => 0,
        Err(code) => code,
    }
}

/// Runs the body of a function that returns a pointer, which is NULL when the body fails.
pub(crate) fn pointer<T>(body: impl FnOnce() -> Result<*mut T, Fault>) -> *mut T {
    conclude(body).unwrap_or(ptr::null_mut())
}

/// Runs `body`, and keeps the reason of its failure or forgets the last one. A panic does not unwind into C.
///
/// The last reason stays readable while `body` runs: an argument of the call may be that string.
fn conclude<T>(body: impl FnOnce() -> Result<T, Fault>) -> Result<T, c_int> {
    // What `body` may have left half-changed belongs to the caller, which is told that the call failed.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let message = "a mistake in xlsnap: the call ended in the middle";
        Err(XlsnapError::new(XlsnapStatus::Failed, XlsnapEffect::Unknown, message).into())
    });
    let reason = result.as_ref().err().map(|fault| fault.error.text());
    // A thread that is ending has no place for it any more, and no reader either.
    let _ = LAST.try_with(|last| last.replace(reason));
    result.map_err(|fault| fault.code)
}

/// Why the last call of one of the design's functions in this thread failed; NULL when that call succeeded.
///
/// The functions are the design's seven (libxl_*_dom_snapshot_conf, libxl_list_dom_snapshot, libxl_disk_snapshot_create, _delete
/// and _revert) and the _to_json and _from_json of both structs. No other function sets or clears it: not _init, _copy, _dispose
/// and _free, so that a struct can be disposed of first, and not those of xlsnap_, which fill an xlsnap_error.
///
/// The text has one line for what failed, then, indented, a line "because: ..." for each cause down to the first one, "now: ..."
/// if something was or may have been changed, and "try: ..." if a remedy is known. Lines of a cause that has several are indented
/// further. It ends without a line feed, and it is for people: a program decides by the code.
///
/// Each thread has its own. The string belongs to the library, and lives until the thread calls one of those functions again or
/// ends; copy it to keep it, or to give it to another thread.
#[unsafe(no_mangle)]
pub extern "C" fn xlsnap_last_error() -> *const c_char {
    let last = LAST.try_with(|last| last.borrow().as_ref().map_or(ptr::null(), |reason| reason.as_ptr()));
    last.unwrap_or(ptr::null())
}
