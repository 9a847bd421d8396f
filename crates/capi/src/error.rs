//! libxl's error codes, and the wall that no panic passes.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `ERROR_FAIL` of libxl.
pub(crate) const ERROR_FAIL: c_int = -3;
/// `ERROR_INVAL` of libxl.
pub(crate) const ERROR_INVAL: c_int = -6;
/// `ERROR_DOMAIN_NOTFOUND` of libxl.
pub(crate) const ERROR_DOMAIN_NOTFOUND: c_int = -21;

/// Runs `body`; a panic in it becomes `ERROR_FAIL` and does not unwind into C.
pub(crate) fn guard(body: impl FnOnce() -> c_int) -> c_int {
    guard_or(ERROR_FAIL, body)
}

/// Runs `body`; a panic in it becomes `failed` and does not unwind into C.
pub(crate) fn guard_or<T>(failed: T, body: impl FnOnce() -> T) -> T {
    // What `body` may have left half-changed belongs to the caller, who is told that the call failed.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(failed)
}
