//! Strings of C, in and out.

use std::ffi::{CStr, c_char};
use std::ptr;

/// Why a string of C cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotUtf8;

/// The bytes of a string of C, without its NUL; `None` for NULL.
///
/// # Safety
/// `string` is NULL or points to a NUL-terminated string that outlives `'a` unchanged.
pub(crate) unsafe fn bytes<'a>(string: *const c_char) -> Option<&'a [u8]> {
    if string.is_null() {
        return None;
    }
    // SAFETY: not NULL, so the caller promises a NUL-terminated string that lives long enough.
    Some(unsafe { CStr::from_ptr(string) }.to_bytes())
}

/// A string of C as Rust has it; `Ok(None)` for NULL.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn text<'a>(string: *const c_char) -> Result<Option<&'a str>, NotUtf8> {
    // SAFETY: the caller's promise is the same.
    let Some(bytes) = (unsafe { bytes(string) }) else { return Ok(None) };
    std::str::from_utf8(bytes).map(Some).map_err(|_| NotUtf8)
}

/// A copy of `bytes` for C, to be freed with `free`. libxl's convention for lack of memory is to end the process, and
/// it is ours. A NUL within ends the string for C, so none may be there.
pub(crate) fn alloc(bytes: &[u8]) -> *mut c_char {
    debug_assert!(!bytes.contains(&0), "a string for C holds no NUL");
    // SAFETY: malloc has no precondition.
    let copy = unsafe { libc::malloc(bytes.len() + 1) }.cast::<u8>();
    if copy.is_null() {
        out_of_memory();
    }
    // SAFETY: `copy` is fresh and has room for all bytes and the NUL.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
        copy.add(bytes.len()).write(0);
    }
    copy.cast()
}

/// The same for a string that may be missing: `None` is NULL.
pub(crate) fn alloc_or_null(string: Option<&str>) -> *mut c_char {
    string.map_or(ptr::null_mut(), |string| alloc(string.as_bytes()))
}

pub(crate) fn out_of_memory() -> ! {
    std::process::abort()
}
