//! What a check of a domain finds.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use xlsnap::{CheckRequest, Repair};

use crate::failure::{XlsnapError, answer, for_c};
use crate::host::XlsnapHost;
use crate::operations::{Call, emptied};

/// What a check found. Freed by xlsnap_findings_free.
pub struct XlsnapFindings {
    findings: Vec<Finding>,
}

struct Finding {
    code: CString,
    what: CString,
    advice: CString,
    repaired: bool,
}

/// Compares a domain's records, images and journal. With `repair` not 0, does the repairs that can lose nothing.
///
/// What it finds is no error: XLSNAP_STATUS_DONE says that it looked.
///
/// # Safety
/// `host` is open; `domain` is NULL or NUL-terminated; `findings` points to room for a pointer; `error` is NULL or does so too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_check(
    host: *const XlsnapHost,
    domain: *const c_char,
    repair: c_int,
    findings: *mut *mut XlsnapFindings,
    error: *mut *mut XlsnapError,
) -> c_int {
    let check = || {
        // SAFETY: the caller's promise.
        let (room, call) = unsafe { (emptied(findings), Call::new(host, domain, ptr::null())?) };
        let room =
            room.ok_or_else(|| XlsnapError::invalid("there is no room for findings: a NULL pointer"))?;
        let request = CheckRequest { repair: repair != 0, ..CheckRequest::default() };
        let report = call.run(async |host, domain| host.host.check(domain, &request, host.call()).await)?;
        let findings = report.findings.iter().map(|finding| Finding {
            code: for_c(finding.code.as_str()),
            what: for_c(&format!("{}: {}", finding.what, finding.risk)),
            advice: for_c(&finding.advice),
            repaired: finding.repair == Repair::Done,
        });
        *room = Box::into_raw(Box::new(XlsnapFindings { findings: findings.collect() }));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, check) }
}

/// How many there are; 0 for NULL.
///
/// # Safety
/// `findings` is NULL or was given by xlsnap_check and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_findings_count(findings: *const XlsnapFindings) -> usize {
    // SAFETY: the caller's promise.
    unsafe { findings.as_ref() }.map_or(0, |findings| findings.findings.len())
}

/// The code of finding `at`, from 0 on: a word that stays the same from version to version. NULL behind the last.
///
/// # Safety
/// `findings` is NULL or was given by xlsnap_check and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_finding_code(findings: *const XlsnapFindings, at: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { finding(findings, at) }.map_or(ptr::null(), |finding| finding.code.as_ptr())
}

/// What was found, and what is at risk. NULL behind the last.
///
/// # Safety
/// `findings` is NULL or was given by xlsnap_check and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_finding_what(findings: *const XlsnapFindings, at: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { finding(findings, at) }.map_or(ptr::null(), |finding| finding.what.as_ptr())
}

/// What to do, or what the repair did. NULL behind the last.
///
/// # Safety
/// `findings` is NULL or was given by xlsnap_check and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_finding_advice(findings: *const XlsnapFindings, at: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { finding(findings, at) }.map_or(ptr::null(), |finding| finding.advice.as_ptr())
}

/// Whether it was repaired: 1 or 0.
///
/// # Safety
/// `findings` is NULL or was given by xlsnap_check and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_finding_is_repaired(findings: *const XlsnapFindings, at: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { finding(findings, at) }.map_or(0, |finding| c_int::from(finding.repaired))
}

/// Frees the findings. NULL is nothing to free.
///
/// # Safety
/// `findings` is NULL or was given by xlsnap_check and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_findings_free(findings: *mut XlsnapFindings) {
    if !findings.is_null() {
        // SAFETY: it comes from Box::into_raw in `xlsnap_check`.
        drop(unsafe { Box::from_raw(findings) });
    }
}

/// # Safety
/// `findings` is NULL or was given by xlsnap_check and not freed.
unsafe fn finding<'a>(findings: *const XlsnapFindings, at: usize) -> Option<&'a Finding> {
    // SAFETY: the caller's promise.
    unsafe { findings.as_ref() }?.findings.get(at)
}
