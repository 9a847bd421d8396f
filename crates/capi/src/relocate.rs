//! Following files that were moved.

use std::ffi::{c_char, c_int};

use xlsnap::{FileMove, RelocateRequest};

use crate::cancel::XlsnapCancel;
use crate::failure::{XlsnapError, answer};
use crate::host::XlsnapHost;
use crate::operations::Call;
use crate::validate::texts;

/// Makes everything that names files of a domain follow them, after they were moved or renamed: headers, records and the domain's file. No
/// file is moved, and no data written.
///
/// `from` are `count` names that files had, or directories with such files, absolute; `to` are as many, the names that they have now.
///
/// Cancelled after its first effect it is finished. See xlsnap_create for the other arguments.
///
/// # Safety
/// `from` and `to` point to `count` strings each; else as xlsnap_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_relocate(
    host: *const XlsnapHost,
    domain: *const c_char,
    from: *const *const c_char,
    to: *const *const c_char,
    count: usize,
    cancel: *const XlsnapCancel,
    error: *mut *mut XlsnapError,
) -> c_int {
    let relocate = || {
        // SAFETY: the caller's promise.
        let (call, olds, news) = unsafe {
            (Call::new(host, domain, cancel)?, names("from", from, count)?, names("to", to, count)?)
        };
        if olds.is_empty() {
            return Err(XlsnapError::invalid("no file is named that was moved"));
        }
        let moves = olds.into_iter().zip(news).map(|(old, new)| FileMove { old, new }).collect();
        let request = RelocateRequest { moves, ..RelocateRequest::default() };
        call.run(async |host, domain| host.host.relocate(domain, &request, host.call()).await).map(drop)
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, relocate) }
}

/// # Safety
/// There are `count` strings.
unsafe fn names(what: &str, names: *const *const c_char, count: usize) -> Result<Vec<String>, XlsnapError> {
    // SAFETY: the caller's promise.
    let given = unsafe { texts((what, "count"), names, count)? };
    let absolute = |(at, name): (usize, Result<&str, XlsnapError>)| match name? {
        name if name.starts_with('/') => Ok(name.to_owned()),
        name => Err(XlsnapError::invalid(&format!("{what}[{at}] ({name:?}) is not an absolute path"))),
    };
    given.enumerate().map(absolute).collect()
}
