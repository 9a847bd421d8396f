//! The snapshots of a domain.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use crate::failure::{XlsnapError, answer, for_c};
use crate::host::XlsnapHost;
use crate::operations::{Call, emptied};

/// The snapshots of a domain, by creation time. Freed by xlsnap_listing_free.
pub struct XlsnapListing {
    rows: Vec<Row>,
}

struct Row {
    name: CString,
    parent: Option<CString>,
    creation_time: u64,
    current: bool,
}

/// Lists the snapshots of a domain. A record that cannot be read is not in it; xlsnap_check tells of it.
///
/// # Safety
/// `host` is open; `domain` is NULL or NUL-terminated; `listing` points to room for a pointer; `error` is NULL or does so too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_list(
    host: *const XlsnapHost,
    domain: *const c_char,
    listing: *mut *mut XlsnapListing,
    error: *mut *mut XlsnapError,
) -> c_int {
    let list = || {
        // SAFETY: the caller's promise.
        let (room, call) = unsafe { (emptied(listing), Call::new(host, domain, ptr::null())?) };
        let room =
            room.ok_or_else(|| XlsnapError::invalid("there is no room for the listing: a NULL pointer"))?;
        let found = call.run(async |host, domain| host.host.list(domain).await)?.listing;
        let rows = found.rows.iter().map(|row| Row {
            name: for_c(row.name.as_str()),
            parent: row.parent.as_ref().map(|parent| for_c(parent.as_str())),
            creation_time: row.creation_time,
            current: found.current.as_ref() == Some(&row.name),
        });
        *room = Box::into_raw(Box::new(XlsnapListing { rows: rows.collect() }));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, list) }
}

/// How many there are; 0 for NULL.
///
/// # Safety
/// `listing` is NULL or was given by xlsnap_list and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_listing_count(listing: *const XlsnapListing) -> usize {
    // SAFETY: the caller's promise.
    unsafe { listing.as_ref() }.map_or(0, |listing| listing.rows.len())
}

/// The name of number `at`, from 0 on; NULL behind the last. It lives as long as the listing.
///
/// # Safety
/// `listing` is NULL or was given by xlsnap_list and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_listing_name(listing: *const XlsnapListing, at: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { row(listing, at) }.map_or(ptr::null(), |row| row.name.as_ptr())
}

/// The name of the snapshot before it; NULL where none is known. It lives as long as the listing.
///
/// # Safety
/// `listing` is NULL or was given by xlsnap_list and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_listing_parent(listing: *const XlsnapListing, at: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    let parent = unsafe { row(listing, at) }.and_then(|row| row.parent.as_ref());
    parent.map_or(ptr::null(), |parent| parent.as_ptr())
}

/// When it was made, in seconds since 1970-01-01 UTC.
///
/// # Safety
/// `listing` is NULL or was given by xlsnap_list and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_listing_creation_time(listing: *const XlsnapListing, at: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { row(listing, at) }.map_or(0, |row| row.creation_time)
}

/// Whether it was made or reverted to last: 1 or 0.
///
/// # Safety
/// `listing` is NULL or was given by xlsnap_list and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_listing_is_current(listing: *const XlsnapListing, at: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { row(listing, at) }.map_or(0, |row| c_int::from(row.current))
}

/// Frees a listing. NULL is nothing to free.
///
/// # Safety
/// `listing` is NULL or was given by xlsnap_list and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_listing_free(listing: *mut XlsnapListing) {
    if !listing.is_null() {
        // SAFETY: it comes from Box::into_raw in `xlsnap_list`.
        drop(unsafe { Box::from_raw(listing) });
    }
}

/// # Safety
/// `listing` is NULL or was given by xlsnap_list and not freed.
unsafe fn row<'a>(listing: *const XlsnapListing, at: usize) -> Option<&'a Row> {
    // SAFETY: the caller's promise.
    unsafe { listing.as_ref() }?.rows.get(at)
}
