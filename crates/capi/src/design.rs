//! The design's seven functions. Their codes are those of [`xlsnap::design::Code`].

use std::ffi::c_int;
use std::{ptr, slice};

use xlsnap::Host;
use xlsnap::design::{self, Failure};
use xlsnap_types::libxl;

use crate::error::{ERROR_DOMAIN_NOTFOUND, ERROR_FAIL, ERROR_INVAL, guard, guard_or};
use crate::runtime::{block_on, default_host};
use crate::string::text;
use crate::structs::{LibxlCtx, LibxlDiskSnapshot, LibxlDomainSnapshot, alloc_array};

/// Fills `snapshot`, whose name says which, from the domain's configuration file of it.
///
/// Its name stays the caller's string; whatever else it held is freed. Returns 0; ERROR_INVAL when `snapshot` or its name is
/// NULL, or the name is not valid; ERROR_DOMAIN_NOTFOUND; ERROR_NOTFOUND when there is no such file; ERROR_FAIL when it is
/// malformed. Then `snapshot` is as before.
///
/// # Safety
/// `snapshot` is NULL or points to a valid struct whose other pointers are NULL or from malloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_load_dom_snapshot_conf(
    _ctx: *mut LibxlCtx,
    domid: u32,
    snapshot: *mut LibxlDomainSnapshot,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let Some(snapshot) = (unsafe { snapshot.as_mut() }) else { return ERROR_INVAL };
        // SAFETY: the caller's promise.
        let Ok(Some(name)) = (unsafe { text(snapshot.name) }) else { return ERROR_INVAL };
        run(async |host| {
            let loaded = design::load_dom_snapshot_conf(host, domid, name).await?;
            let loaded = libxl::DomainSnapshot { name: None, ..loaded };
            // SAFETY: the caller's promise.
            unsafe { snapshot.replace_all_but_name(LibxlDomainSnapshot::from_rust(&loaded)) };
            Ok(())
        })
    })
}

/// Stores `snapshot` as the domain's configuration file of its name, in the place of one that is there.
///
/// Returns 0; ERROR_INVAL when `snapshot` or its name is NULL, the name is empty or not valid, a string is not UTF-8, or a
/// format is none of libxl's; ERROR_DOMAIN_NOTFOUND; ERROR_LOCK_FAIL when somebody else works on the domain; ERROR_FAIL.
///
/// # Safety
/// `snapshot` is NULL or points to a valid struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_store_dom_snapshot_conf(
    _ctx: *mut LibxlCtx,
    domid: u32,
    snapshot: *mut LibxlDomainSnapshot,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let Some(snapshot) = (unsafe { snapshot.as_ref() }) else { return ERROR_INVAL };
        // SAFETY: the caller's promise.
        let Ok(snapshot) = (unsafe { snapshot.to_rust() }) else { return ERROR_INVAL };
        run(async |host| design::store_dom_snapshot_conf(host, domid, &snapshot).await)
    })
}

/// Deletes the domain's configuration file of the snapshot that has the name in `snapshot`. No disk is touched.
///
/// Returns 0; ERROR_INVAL when `snapshot` or its name is NULL, or the name is not valid; ERROR_DOMAIN_NOTFOUND; ERROR_NOTFOUND
/// when there is no such file; ERROR_LOCK_FAIL; ERROR_FAIL.
///
/// # Safety
/// `snapshot` is NULL or points to a valid struct. Only its name is looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_delete_dom_snapshot_conf(
    _ctx: *mut LibxlCtx,
    domid: u32,
    snapshot: *mut LibxlDomainSnapshot,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let Some(snapshot) = (unsafe { snapshot.as_ref() }) else { return ERROR_INVAL };
        // SAFETY: the caller's promise.
        let Ok(Some(name)) = (unsafe { text(snapshot.name) }) else { return ERROR_INVAL };
        run(async |host| design::delete_dom_snapshot_conf(host, domid, name).await)
    })
}

/// All snapshots of the domain whose configuration file can be read, by creation time; `*num` says how many.
///
/// To be freed by libxl_domain_snapshot_list_free. NULL, and `*num` 0, when there are none, the domain is not known, or `num` is NULL.
///
/// # Safety
/// `num` is NULL or points to an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_list_dom_snapshot(
    _ctx: *mut LibxlCtx,
    domid: u32,
    num: *mut c_int,
) -> *mut LibxlDomainSnapshot {
    guard_or(ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let Some(num) = (unsafe { num.as_mut() }) else { return ptr::null_mut() };
        *num = 0;
        let mut list = ptr::null_mut();
        run(async |host| {
            let snapshots = design::list_dom_snapshot(host, domid).await?;
            let Ok(count) = c_int::try_from(snapshots.len()) else { return Ok(()) };
            list = alloc_array(snapshots.iter().map(LibxlDomainSnapshot::from_rust));
            *num = count;
            Ok(())
        });
        list
    })
}

/// Takes a snapshot of each disk of the array, of all at one instant, and of all or none.
///
/// `device` says which disk; `name` is the snapshot's name in its image; a `file` that is not empty makes it external, into that
/// new file of that format (qcow2 when unknown). Returns 0; ERROR_INVAL when an argument makes no sense; ERROR_DOMAIN_NOTFOUND;
/// ERROR_NOTFOUND when the domain has no such disk; ERROR_FAIL when a disk cannot take it or the name is there; ERROR_LOCK_FAIL
/// when somebody else has the domain or an image; ERROR_BADFAIL when it failed and could not be undone.
///
/// # Safety
/// `snapshot` is NULL or points to `num` valid structs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_create(
    _ctx: *mut LibxlCtx,
    domid: c_int,
    snapshot: *mut LibxlDiskSnapshot,
    num: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        on_disks(domid, snapshot, num, async |host, domid, disks| {
            design::disk_snapshot_create(host, domid, disks).await
        })
    }
}

/// Deletes the internal snapshot `name` of each disk of the array, one after the other, until the first that fails.
///
/// Returns 0; ERROR_NOTFOUND when a disk has no such snapshot; else as libxl_disk_snapshot_create.
///
/// # Safety
/// `snapshot` is NULL or points to `num` valid structs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_delete(
    _ctx: *mut LibxlCtx,
    domid: c_int,
    snapshot: *mut LibxlDiskSnapshot,
    num: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        on_disks(domid, snapshot, num, async |host, domid, disks| {
            design::disk_snapshot_delete(host, domid, disks).await
        })
    }
}

/// Brings each disk of the array back to its internal snapshot `name`. The domain must be off.
///
/// All disks are looked at before the first is changed. Returns 0; ERROR_FAIL while the domain runs; ERROR_BADFAIL when some
/// disks went back and others did not (do it again); else as libxl_disk_snapshot_delete.
///
/// # Safety
/// `snapshot` is NULL or points to `num` valid structs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_revert(
    _ctx: *mut LibxlCtx,
    domid: c_int,
    snapshot: *mut LibxlDiskSnapshot,
    num: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        on_disks(domid, snapshot, num, async |host, domid, disks| {
            design::disk_snapshot_revert(host, domid, disks).await
        })
    }
}

/// # Safety
/// `first` is NULL or points to `num` valid structs.
unsafe fn on_disks(
    domid: c_int,
    first: *const LibxlDiskSnapshot,
    num: c_int,
    act: impl AsyncFnOnce(&Host, u32, &[libxl::DiskSnapshot]) -> Result<(), Failure>,
) -> c_int {
    guard(|| {
        let Ok(count) = usize::try_from(num) else { return ERROR_INVAL };
        if first.is_null() && count > 0 {
            return ERROR_INVAL;
        }
        let disks: &[LibxlDiskSnapshot] =
            // SAFETY: not NULL, and the caller promises so many.
            if count == 0 { &[] } else { unsafe { slice::from_raw_parts(first, count) } };
        // SAFETY: the caller's promise.
        let disks: Result<Vec<_>, _> = disks.iter().map(|disk| unsafe { disk.to_rust() }).collect();
        let Ok(disks) = disks else { return ERROR_INVAL };
        // Xen's domids are not negative.
        let Ok(domid) = u32::try_from(domid) else { return ERROR_DOMAIN_NOTFOUND };
        run(async |host| act(host, domid, &disks).await)
    })
}

/// Runs one of the design's functions on the default host; its code.
fn run(act: impl AsyncFnOnce(&Host) -> Result<(), Failure>) -> c_int {
    let Ok(host) = default_host() else { return ERROR_FAIL };
    match block_on(act(&host)) {
        Ok(Ok(())) => 0,
        Ok(Err(failure)) => failure.code.number(),
        Err(_) => ERROR_FAIL,
    }
}
