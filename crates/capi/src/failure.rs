//! The error object of the `xlsnap_` functions.

use std::error::Error as _;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use xlsnap::{Effect, Error, Kind};

/// How an `xlsnap_` function ended. The numbers are the exit codes of the command `xlsnap`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XlsnapStatus {
    /// It was done.
    Done = 0,
    /// It failed, and nothing was changed.
    Failed = 1,
    /// An argument is not valid.
    Invalid = 2,
    /// The domain, snapshot or disk is not there.
    NotFound = 3,
    /// Another process holds the domain, an image or the monitor.
    Busy = 4,
    /// A check refused it before any effect.
    Refused = 5,
    /// It failed, and xlsnap_recover has to finish or undo it.
    RecoveryPending = 6,
    /// It was cancelled; the error's effect says how it ended.
    Cancelled = 8,
}

/// What is known of the effect of something that failed.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XlsnapEffect {
    /// Nothing was changed, or all of it was undone.
    None = 0,
    /// It was done.
    Done = 1,
    /// It may have been done, or half of it.
    Unknown = 2,
}

/// Why an `xlsnap_` function failed. Freed by xlsnap_error_free.
pub struct XlsnapError {
    status: XlsnapStatus,
    effect: XlsnapEffect,
    message: CString,
    causes: Vec<CString>,
    advice: Option<CString>,
}

impl XlsnapError {
    pub(crate) fn new(status: XlsnapStatus, effect: XlsnapEffect, message: &str) -> Self {
        Self { status, effect, message: for_c(message), causes: Vec::new(), advice: None }
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(XlsnapStatus::Invalid, XlsnapEffect::None, message)
    }

    /// The same with what to do about it.
    #[must_use]
    pub(crate) fn advise(self, advice: &str) -> Self {
        Self { advice: Some(for_c(advice)), ..self }
    }

    /// The same with its cause, and its cause's.
    #[must_use]
    pub(crate) fn because(self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(cause), |cause| (*cause).source());
        Self { causes: causes.map(|cause| for_c(&cause.to_string())).collect(), ..self }
    }

    pub(crate) fn status(&self) -> XlsnapStatus {
        self.status
    }

    /// All of it, as the command `xlsnap` prints it.
    pub(crate) fn text(&self) -> CString {
        let mut text = indented(&self.message);
        let mut line = |label: &str, what: &str| {
            text.push_str("\n  ");
            text.push_str(label);
            text.push_str(": ");
            text.push_str(what);
        };
        for cause in &self.causes {
            line("because", &indented(cause));
        }
        match self.effect {
            XlsnapEffect::None => {}
            XlsnapEffect::Done => line("now", "it was done"),
            XlsnapEffect::Unknown => line("now", "it may have been done, or half of it"),
        }
        if let Some(advice) = &self.advice {
            line("try", &indented(advice));
        }
        for_c(&text)
    }

    pub(crate) fn cancelled(effect: XlsnapEffect, message: &str) -> Self {
        Self::new(XlsnapStatus::Cancelled, effect, message)
    }
}

impl From<Error> for XlsnapError {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => XlsnapStatus::NotFound,
            Kind::Busy => XlsnapStatus::Busy,
            Kind::Refused => XlsnapStatus::Refused,
            Kind::RecoveryPending => XlsnapStatus::RecoveryPending,
            _ => XlsnapStatus::Failed,
        };
        let effect = match error.effect() {
            Effect::None => XlsnapEffect::None,
            Effect::Done => XlsnapEffect::Done,
            Effect::Unknown => XlsnapEffect::Unknown,
        };
        let failed =
            Self { advice: error.advice().map(for_c), ..Self::new(status, effect, &error.to_string()) };
        match error.source() {
            Some(cause) => failed.because(cause),
            None => failed,
        }
    }
}

impl From<std::io::Error> for XlsnapError {
    fn from(error: std::io::Error) -> Self {
        Self::new(XlsnapStatus::Failed, XlsnapEffect::None, "the event loop cannot be started")
            .because(&error)
    }
}

/// The text as a string of C, which ends at a NUL.
pub(crate) fn for_c(text: &str) -> CString {
    let whole = text.split('\0').next().unwrap_or_default();
    CString::new(whole).expect("it was cut at the first NUL")
}

/// The lines of `text` that say something, all but the first indented. What a terminal would obey is escaped: a cause may quote
/// what a guest or an image's header says.
fn indented(text: &CStr) -> String {
    let text = text.to_string_lossy();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let visible = lines.map(|line| {
        let mut visible = String::with_capacity(line.len());
        for c in line.chars() {
            if c.is_control() { visible.extend(c.escape_default()) } else { visible.push(c) }
        }
        visible
    });
    visible.collect::<Vec<_>>().join("\n    ")
}

/// Runs `body`, gives its status, and puts its error where the caller wants it. A panic does not unwind into C.
///
/// # Safety
/// `error` is NULL or points to room for a pointer.
pub(crate) unsafe fn answer(
    error: *mut *mut XlsnapError,
    body: impl FnOnce() -> Result<(), XlsnapError>,
) -> c_int {
    // What `body` may have left half-changed belongs to the caller, which is told that the call failed.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let message = "a mistake in xlsnap: the call ended in the middle";
        Err(XlsnapError::new(XlsnapStatus::Failed, XlsnapEffect::Unknown, message))
    });
    let (status, object) = match result {
        Ok(()) => (XlsnapStatus::Done, ptr::null_mut()),
        Err(failure) => (failure.status, Box::into_raw(Box::new(failure))),
    };
    if error.is_null() {
        // SAFETY: it was made above, or is NULL.
        unsafe { xlsnap_error_free(object) };
    } else {
        // SAFETY: not NULL, so the caller gave room for a pointer.
        unsafe { error.write(object) };
    }
    status as c_int
}

/// What the call that failed returned; 0 for NULL.
///
/// # Safety
/// `error` is NULL or was given by an `xlsnap_` function and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_error_status(error: *const XlsnapError) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { error.as_ref() }.map_or(0, |error| error.status as c_int)
}

/// What is known of its effect: XLSNAP_EFFECT_NONE for NULL.
///
/// # Safety
/// `error` is NULL or was given by an `xlsnap_` function and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_error_effect(error: *const XlsnapError) -> XlsnapEffect {
    // SAFETY: the caller's promise.
    unsafe { error.as_ref() }.map_or(XlsnapEffect::None, |error| error.effect)
}

/// What failed, on which domain, disk or file; NULL for NULL. It lives as long as `error`.
///
/// # Safety
/// `error` is NULL or was given by an `xlsnap_` function and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_error_message(error: *const XlsnapError) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { error.as_ref() }.map_or(ptr::null(), |error| error.message.as_ptr())
}

/// Why: the cause `at` of the chain, from 0 on; NULL behind the last one. It lives as long as `error`.
///
/// # Safety
/// `error` is NULL or was given by an `xlsnap_` function and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_error_cause(error: *const XlsnapError, at: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    let error = unsafe { error.as_ref() };
    error.and_then(|error| error.causes.get(at)).map_or(ptr::null(), |cause| cause.as_ptr())
}

/// What to do about it; NULL when nothing is known to help. It lives as long as `error`.
///
/// # Safety
/// `error` is NULL or was given by an `xlsnap_` function and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_error_advice(error: *const XlsnapError) -> *const c_char {
    // SAFETY: the caller's promise.
    let error = unsafe { error.as_ref() };
    error.and_then(|error| error.advice.as_ref()).map_or(ptr::null(), |advice| advice.as_ptr())
}

/// Frees an error. NULL is nothing to free.
///
/// # Safety
/// `error` is NULL or was given by an `xlsnap_` function and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_error_free(error: *mut XlsnapError) {
    if !error.is_null() {
        // SAFETY: it comes from Box::into_raw in `answer`.
        drop(unsafe { Box::from_raw(error) });
    }
}
