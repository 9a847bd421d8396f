//! The design's seven functions. Their codes are those of [`xlsnap::design::Code`].

use std::ffi::{c_char, c_int};

use xlsnap::Host;
use xlsnap::design::{self, Failure};
use xlsnap_types::libxl::{self, DiskFormat};

use crate::error::{ERROR_DOMAIN_NOTFOUND, Fault, code, pointer};
use crate::failure::{XlsnapEffect, XlsnapError, XlsnapStatus};
use crate::host::argument;
use crate::runtime::{block_on, default_host};
use crate::string::bytes;
use crate::structs::{LibxlCtx, LibxlDiskSnapshot, LibxlDomainSnapshot, alloc_array, array_mut, null_struct};
use crate::validate::array;

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
    code(|| {
        // SAFETY: the caller's promise.
        let snapshot = unsafe { snapshot.as_mut() }.ok_or_else(null_struct)?;
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(snapshot.name)? };
        let loaded = run(async |host| design::load_dom_snapshot_conf(host, domid, name).await)?;
        let loaded = libxl::DomainSnapshot { name: None, ..loaded };
        // SAFETY: the caller's promise.
        unsafe { snapshot.replace_all_but_name(LibxlDomainSnapshot::from_rust(&loaded)) };
        Ok(())
    })
}

/// Stores `snapshot` as the domain's configuration file of its name, in the place of one that is there.
///
/// What is stored is the whole struct or nothing of it. Returns 0; ERROR_INVAL when the struct is not valid, see below;
/// ERROR_DOMAIN_NOTFOUND; ERROR_LOCK_FAIL when another process works on the domain; ERROR_FAIL.
///
/// Not valid is: `snapshot` or its name is NULL; the name is empty, has over 200 bytes, a '/' or a control character, begins with
/// '-', or is "." or ".."; a string is not UTF-8; a flag is neither true nor false; `num_disks` is below 0 or above 65536, or above 0
/// while `disks` is NULL. Of a disk: `device` is NULL, empty, a path, or else no word of at most 64 letters, digits, '.', '_' and '-',
/// or is that of another disk; `name` has over 255 bytes or a control character; `format` is none of libxl's, or, where `file` is
/// not empty, UNKNOWN or EMPTY. A NULL `name` of a disk means that of the snapshot; another NULL string means an empty one.
///
/// # Safety
/// `snapshot` is NULL or points to a valid struct; `disks` is NULL or points to `num_disks` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_store_dom_snapshot_conf(
    _ctx: *mut LibxlCtx,
    domid: u32,
    snapshot: *mut LibxlDomainSnapshot,
) -> c_int {
    code(|| {
        // SAFETY: the caller's promise.
        let snapshot = unsafe { snapshot.as_ref() }.ok_or_else(null_struct)?;
        // SAFETY: the caller's promise.
        let snapshot = unsafe { snapshot.to_rust()? };
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
    code(|| {
        // SAFETY: the caller's promise.
        let snapshot = unsafe { snapshot.as_ref() }.ok_or_else(null_struct)?;
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(snapshot.name)? };
        run(async |host| design::delete_dom_snapshot_conf(host, domid, name).await)
    })
}

/// All snapshots of the domain whose configuration file can be read, by creation time; `*num` says how many.
///
/// To be freed by libxl_domain_snapshot_list_free. NULL, and `*num` 0, when there are none, and on a failure;
/// xlsnap_last_error tells these apart: it is NULL when there are none.
///
/// # Safety
/// `num` is NULL or points to an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_list_dom_snapshot(
    _ctx: *mut LibxlCtx,
    domid: u32,
    num: *mut c_int,
) -> *mut LibxlDomainSnapshot {
    pointer(|| {
        // SAFETY: the caller's promise.
        let num = unsafe { num.as_mut() }
            .ok_or_else(|| XlsnapError::invalid("there is no room for the number: a NULL pointer"))?;
        *num = 0;
        let snapshots = run(async |host| design::list_dom_snapshot(host, domid).await)?;
        let count = c_int::try_from(snapshots.len()).map_err(|_| {
            let message = format!("an int does not hold the number of the snapshots, {}", snapshots.len());
            XlsnapError::new(XlsnapStatus::Failed, XlsnapEffect::None, &message)
        })?;
        *num = count;
        Ok(alloc_array(snapshots.iter().map(LibxlDomainSnapshot::from_rust)))
    })
}

/// Takes a snapshot of each disk of the array, of all at one instant, and of all or none.
///
/// `device` says which disk; `name` is the snapshot's name in its image; a `file` that is not empty makes it external, into that
/// new file of that format: LIBXL_DISK_FORMAT_QCOW2 or _QED; UNKNOWN becomes QCOW2, in the caller's struct too. Of no disks it does
/// nothing. Returns 0; ERROR_INVAL when the array is not valid, see below; ERROR_DOMAIN_NOTFOUND; ERROR_NOTFOUND when the domain has
/// no such disk; ERROR_FAIL when a disk cannot take it or the name is there; ERROR_LOCK_FAIL when another process has the domain or
/// an image; ERROR_BADFAIL when it failed and could not be undone.
///
/// Not valid is: `num` below 0 or above 65536, or above 0 while `snapshot` is NULL; a string that is not UTF-8; a `device` that is
/// NULL, empty, a path, or else no word of at most 64 letters, digits, '.', '_' and '-', or that of another struct; a `format` that
/// is none of libxl's; in an internal one a `name` that libxl_store_dom_snapshot_conf would not take for a snapshot's; in an
/// external one a `file` that is no absolute path or that of another struct, or a format of no overlay.
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
    let rc = unsafe {
        on_disks(domid, snapshot, num, async |host, domid, disks| {
            design::disk_snapshot_create(host, domid, disks).await
        })
    };
    if rc == 0 {
        // SAFETY: the structs were taken, so they are there, and nothing else uses them during the call.
        let made = unsafe { array_mut(snapshot, num) };
        for disk in made {
            // SAFETY: the caller's promise.
            let external = unsafe { bytes(disk.file) }.is_some_and(|file| !file.is_empty());
            if external && disk.format == DiskFormat::Unknown.number().cast_unsigned() {
                disk.format = DiskFormat::Qcow2.number().cast_unsigned();
            }
        }
    }
    rc
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
    code(|| {
        // SAFETY: the caller's promise.
        let disks = unsafe { array(("snapshot", "num"), first, num)? };
        let disks = disks.iter().enumerate();
        let disks = disks
            // SAFETY: the caller's promise.
            .map(|(at, disk)| unsafe { disk.to_rust(&format!("snapshot[{at}].")) })
            .collect::<Result<Vec<_>, _>>()?;
        let domid = u32::try_from(domid).map_err(|_| {
            let message = format!("no domain has the domid {domid}: Xen's domids are not negative");
            Fault::new(ERROR_DOMAIN_NOTFOUND, XlsnapError::invalid(&message))
        })?;
        run(async |host| act(host, domid, &disks).await)
    })
}

/// Runs one of the design's functions on the default host.
fn run<T>(act: impl AsyncFnOnce(&Host) -> Result<T, Failure>) -> Result<T, Fault> {
    let host = default_host().map_err(XlsnapError::from)?;
    Ok(block_on(act(&host))??)
}

/// The name in the struct of a snapshot.
///
/// # Safety
/// `name` is NULL or NUL-terminated.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a str, XlsnapError> {
    // SAFETY: the caller's promise.
    unsafe { argument("name", name)? }
        .ok_or_else(|| XlsnapError::invalid("name is NULL: no snapshot is named"))
}
