//! The design's two structs as C has them, and what libxl generates for each: init, dispose, copy, and JSON.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::{ptr, slice};

use xlsnap_types::libxl::{self, JsonError, Mode};

use crate::error::{Fault, code, pointer};
use crate::failure::{XlsnapEffect, XlsnapError, XlsnapStatus};
use crate::string::{alloc, alloc_or_null, bytes, out_of_memory};
use crate::validate::{MOST_DISKS, array};

/// libxl's context. It is never looked into, and may be NULL.
#[repr(C)]
pub struct LibxlCtx {
    _opaque: [u8; 0],
}

/// `libxl_disk_format`: C's type of it is in the header, libxl's own where that is there.
pub type LibxlDiskFormat = c_uint;

/// C's `bool`, any byte of which a program may have left there: Rust's own has no other than 0 and 1.
pub type LibxlBool = u8;

/// A disk's part in a snapshot.
#[repr(C)]
#[derive(Debug)]
pub struct LibxlDiskSnapshot {
    /// The disk's name: hda, xvdb.
    pub device: *mut c_char,
    /// The snapshot's name in the disk, usually that of the domain's snapshot.
    pub name: *mut c_char,
    /// The file of an external snapshot; empty in an internal one.
    pub file: *mut c_char,
    /// The format of an external snapshot's file; LIBXL_DISK_FORMAT_UNKNOWN in an internal one.
    pub format: LibxlDiskFormat,
    /// The disk's image. Forced empty when stored.
    pub path: *mut c_char,
}

/// A snapshot of a domain.
#[repr(C)]
#[derive(Debug)]
pub struct LibxlDomainSnapshot {
    /// Its name.
    pub name: *mut c_char,
    /// What its maker wrote about it.
    pub description: *mut c_char,
    /// Seconds since 1970-01-01 UTC.
    pub creation_time: u64,
    /// The file with the domain's memory; empty for a disk-only snapshot.
    pub memory: *mut c_char,
    /// The domain's state before the snapshot, as libxl_dominfo has it.
    pub running: LibxlBool,
    /// All its virtual CPUs were blocked.
    pub blocked: LibxlBool,
    /// It was paused.
    pub paused: LibxlBool,
    /// It had shut down.
    pub shutdown: LibxlBool,
    /// It was dying.
    pub dying: LibxlBool,
    /// How many disks there are.
    pub num_disks: c_int,
    /// The disks; NULL when there are none.
    pub disks: *mut LibxlDiskSnapshot,
}

impl LibxlDiskSnapshot {
    /// As `libxl_disk_snapshot_init` leaves it.
    pub(crate) const INIT: Self = Self {
        device: ptr::null_mut(),
        name: ptr::null_mut(),
        file: ptr::null_mut(),
        format: 0,
        path: ptr::null_mut(),
    };

    pub(crate) fn from_rust(disk: &libxl::DiskSnapshot) -> Self {
        Self {
            device: alloc_or_null(disk.device.as_deref()),
            name: alloc_or_null(disk.name.as_deref()),
            file: alloc_or_null(disk.file.as_deref()),
            format: disk.format.number().cast_unsigned(),
            path: alloc_or_null(disk.path.as_deref()),
        }
    }

    /// Frees what it points to, and leaves it as after init.
    ///
    /// # Safety
    /// Every pointer in it is NULL or comes from malloc and is freed by nothing else.
    unsafe fn dispose(&mut self) {
        for string in [self.device, self.name, self.file, self.path] {
            // SAFETY: the caller's promise; free takes NULL.
            unsafe { libc::free(string.cast::<c_void>()) };
        }
        *self = Self::INIT;
    }
}

impl LibxlDomainSnapshot {
    /// As `libxl_domain_snapshot_init` leaves it.
    pub(crate) const INIT: Self = Self {
        name: ptr::null_mut(),
        description: ptr::null_mut(),
        creation_time: 0,
        memory: ptr::null_mut(),
        running: 0,
        blocked: 0,
        paused: 0,
        shutdown: 0,
        dying: 0,
        num_disks: 0,
        disks: ptr::null_mut(),
    };

    pub(crate) fn from_rust(snapshot: &libxl::DomainSnapshot) -> Self {
        Self {
            name: alloc_or_null(snapshot.name.as_deref()),
            description: alloc_or_null(snapshot.description.as_deref()),
            creation_time: snapshot.creation_time,
            memory: alloc_or_null(snapshot.memory.as_deref()),
            running: snapshot.running.into(),
            blocked: snapshot.blocked.into(),
            paused: snapshot.paused.into(),
            shutdown: snapshot.shutdown.into(),
            dying: snapshot.dying.into(),
            num_disks: c_int::try_from(snapshot.disks.len())
                .expect("a record has fewer disks, for it is short, and another text was counted"),
            disks: alloc_array(snapshot.disks.iter().map(LibxlDiskSnapshot::from_rust)),
        }
    }

    /// Frees everything but the name, which stays, and takes the rest from `other`.
    ///
    /// # Safety
    /// As [`Self::dispose`], but for the name, which may be from anywhere.
    pub(crate) unsafe fn replace_all_but_name(&mut self, other: Self) {
        let name = std::mem::replace(&mut self.name, ptr::null_mut());
        // SAFETY: the caller's promise; freeing NULL does nothing.
        unsafe { self.dispose() };
        *self = Self { name, ..other };
    }

    /// Frees what it points to, and leaves it as after init.
    ///
    /// # Safety
    /// Every pointer in it and in its disks is NULL or comes from malloc and is freed by nothing else.
    pub(crate) unsafe fn dispose(&mut self) {
        for string in [self.name, self.description, self.memory] {
            // SAFETY: the caller's promise; free takes NULL.
            unsafe { libc::free(string.cast::<c_void>()) };
        }
        // SAFETY: the caller's promise.
        unsafe {
            for disk in array_mut(self.disks, self.num_disks) {
                disk.dispose();
            }
            libc::free(self.disks.cast::<c_void>());
        }
        *self = Self::INIT;
    }
}

/// # Safety
/// `first` is NULL or points to `count` valid values that nothing else uses during `'a`.
pub(crate) unsafe fn array_mut<'a, T>(first: *mut T, count: c_int) -> &'a mut [T] {
    match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if !first.is_null() => unsafe { slice::from_raw_parts_mut(first, count) },
        _ => &mut [],
    }
}

/// A malloc'd array of `items`; NULL when there are none.
pub(crate) fn alloc_array<T>(items: impl ExactSizeIterator<Item = T>) -> *mut T {
    if items.len() == 0 {
        return ptr::null_mut();
    }
    // SAFETY: calloc has no precondition, and checks the product.
    let first = unsafe { libc::calloc(items.len(), size_of::<T>()) }.cast::<T>();
    if first.is_null() {
        out_of_memory();
    }
    for (at, item) in items.enumerate() {
        // SAFETY: `at` is below the length that was allocated for; malloc's alignment serves any C struct.
        unsafe { first.add(at).write(item) };
    }
    first
}

/// The failure of a function that was given no struct.
pub(crate) fn null_struct() -> XlsnapError {
    XlsnapError::invalid("there is no struct: a NULL pointer")
}

/// The text of a `_from_json` whose other pointer is `into`.
///
/// # Safety
/// `json` is NULL or points to a NUL-terminated string that outlives `'a` unchanged.
unsafe fn text_of<'a, T>(into: *mut T, json: *const c_char) -> Result<&'a [u8], XlsnapError> {
    if into.is_null() {
        return Err(null_struct());
    }
    // SAFETY: the caller's promise.
    unsafe { bytes(json) }.ok_or_else(|| XlsnapError::invalid("there is no text: a NULL pointer"))
}

fn not_read(why: JsonError) -> Fault {
    let error =
        XlsnapError::new(XlsnapStatus::Failed, XlsnapEffect::None, "the text is not read as libxl-json");
    error.because(&why).into()
}

/// Fills `p` with the defaults: NULL, 0, false.
///
/// # Safety
/// `p` is NULL or points to room for the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_init(p: *mut LibxlDiskSnapshot) {
    if !p.is_null() {
        // SAFETY: not NULL, so the caller gave room for one.
        unsafe { p.write(LibxlDiskSnapshot::INIT) };
    }
}

/// Frees what `p` points to, but not `p`, and leaves it as after init.
///
/// # Safety
/// `p` is NULL or points to a struct whose pointers are NULL or from malloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_dispose(p: *mut LibxlDiskSnapshot) {
    // SAFETY: the caller's promise.
    if let Some(disk) = unsafe { p.as_mut() } {
        // SAFETY: the caller's promise.
        unsafe { disk.dispose() };
    }
}

/// Copies `src` deeply to `dst`, which is as after init. `dst == src` changes nothing.
///
/// # Safety
/// Both are NULL or point to valid structs; what `dst` points to is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_copy(
    _ctx: *mut LibxlCtx,
    dst: *mut LibxlDiskSnapshot,
    src: *const LibxlDiskSnapshot,
) {
    if dst.is_null() || src.is_null() || ptr::eq(dst, src) {
        return;
    }
    // SAFETY: neither is NULL, and they are not the same.
    unsafe { dst.write(copy_disk(&*src)) };
}

/// # Safety
/// Every pointer in it is NULL or points to a NUL-terminated string.
unsafe fn copy_disk(disk: &LibxlDiskSnapshot) -> LibxlDiskSnapshot {
    // SAFETY: the caller's promise.
    unsafe {
        LibxlDiskSnapshot {
            device: copy_string(disk.device),
            name: copy_string(disk.name),
            file: copy_string(disk.file),
            format: disk.format,
            path: copy_string(disk.path),
        }
    }
}

/// # Safety
/// `string` is NULL or NUL-terminated.
unsafe fn copy_string(string: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { bytes(string) }.map_or(ptr::null_mut(), alloc)
}

/// The struct as libxl-json, to be freed by the caller; NULL when `p` is NULL or a string in it is not UTF-8; xlsnap_last_error says which.
///
/// # Safety
/// `p` is NULL or points to a valid struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_to_json(
    _ctx: *mut LibxlCtx,
    p: *mut LibxlDiskSnapshot,
) -> *mut c_char {
    pointer(|| {
        // SAFETY: the caller's promise.
        let disk = unsafe { p.as_ref() }.ok_or_else(null_struct)?;
        let mut json = Vec::with_capacity(256);
        // SAFETY: the caller's promise.
        unsafe { disk.fields("")? }.append_json(&mut json);
        Ok(alloc(&json))
    })
}

/// Fills `p`, which is as after init, from libxl-json, read as libxl reads it.
///
/// Returns 0, or ERROR_FAIL when `s` is no JSON or a value is out of range; ERROR_INVAL when a pointer is NULL. Then `p`
/// is as after init.
///
/// # Safety
/// `p` is NULL or points to room for a struct; `s` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_from_json(
    _ctx: *mut LibxlCtx,
    p: *mut LibxlDiskSnapshot,
    s: *const c_char,
) -> c_int {
    code(|| {
        // SAFETY: the caller's promise.
        let json = unsafe { text_of(p, s)? };
        // SAFETY: `p` is not NULL.
        unsafe { p.write(LibxlDiskSnapshot::INIT) };
        let read = libxl::DiskSnapshot::from_json(json, Mode::Libxl).map_err(not_read)?;
        // SAFETY: the same.
        unsafe { p.write(LibxlDiskSnapshot::from_rust(&read)) };
        Ok(())
    })
}

/// Fills `p` with the defaults: NULL, 0, false.
///
/// # Safety
/// `p` is NULL or points to room for the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_domain_snapshot_init(p: *mut LibxlDomainSnapshot) {
    if !p.is_null() {
        // SAFETY: not NULL, so the caller gave room for one.
        unsafe { p.write(LibxlDomainSnapshot::INIT) };
    }
}

/// Frees what `p` points to, disks included, but not `p`, and leaves it as after init.
///
/// # Safety
/// `p` is NULL or points to a struct whose pointers are NULL or from malloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_domain_snapshot_dispose(p: *mut LibxlDomainSnapshot) {
    // SAFETY: the caller's promise.
    if let Some(snapshot) = unsafe { p.as_mut() } {
        // SAFETY: the caller's promise.
        unsafe { snapshot.dispose() };
    }
}

/// Copies `src` deeply to `dst`, which is as after init. `dst == src` changes nothing.
///
/// Of a struct whose `disks` do not fit its `num_disks` the copy has the same number and no disks, so that every function that
/// refuses the one refuses the other.
///
/// # Safety
/// Both are NULL or point to valid structs; what `dst` points to is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_domain_snapshot_copy(
    _ctx: *mut LibxlCtx,
    dst: *mut LibxlDomainSnapshot,
    src: *const LibxlDomainSnapshot,
) {
    if dst.is_null() || src.is_null() || ptr::eq(dst, src) {
        return;
    }
    // SAFETY: neither is NULL, and they are not the same.
    unsafe {
        let src = &*src;
        // An array that does not fit its number is not read; the copy is then as bad as what it is of, and refused like that.
        let disks = array(("disks", "num_disks"), src.disks, src.num_disks).unwrap_or(&[]);
        dst.write(LibxlDomainSnapshot {
            name: copy_string(src.name),
            description: copy_string(src.description),
            memory: copy_string(src.memory),
            disks: alloc_array(disks.iter().map(|disk| copy_disk(disk))),
            ..*src
        });
    }
}

/// The struct as libxl-json, to be freed by the caller. NULL when `p` is NULL; a string in it is not UTF-8; `num_disks` is below 0 or
/// above 65536, or above 0 while `disks` is NULL; or a flag is neither true nor false. xlsnap_last_error says which.
///
/// # Safety
/// `p` is NULL or points to a valid struct; `disks` is NULL or points to `num_disks` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_domain_snapshot_to_json(
    _ctx: *mut LibxlCtx,
    p: *mut LibxlDomainSnapshot,
) -> *mut c_char {
    pointer(|| {
        // SAFETY: the caller's promise.
        let snapshot = unsafe { p.as_ref() }.ok_or_else(null_struct)?;
        let mut json = Vec::with_capacity(512);
        // SAFETY: the caller's promise.
        unsafe { snapshot.fields()? }.append_json(&mut json);
        Ok(alloc(&json))
    })
}

/// Fills `p`, which is as after init, from libxl-json, read as libxl reads it.
///
/// Returns 0, or ERROR_FAIL when `s` is no JSON, a value is out of range or more than 65536 disks are listed; ERROR_INVAL when a
/// pointer is NULL. Then `p`, unless it is NULL, is as after init.
///
/// # Safety
/// `p` is NULL or points to room for a struct; `s` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_domain_snapshot_from_json(
    _ctx: *mut LibxlCtx,
    p: *mut LibxlDomainSnapshot,
    s: *const c_char,
) -> c_int {
    code(|| {
        // SAFETY: the caller's promise.
        let json = unsafe { text_of(p, s)? };
        // SAFETY: `p` is not NULL.
        unsafe { p.write(LibxlDomainSnapshot::INIT) };
        let read = libxl::DomainSnapshot::from_json(json, Mode::Libxl).map_err(not_read)?;
        if read.disks.len() > MOST_DISKS {
            let message =
                format!("the text lists {} disks; at most {MOST_DISKS} are taken", read.disks.len());
            return Err(XlsnapError::new(XlsnapStatus::Failed, XlsnapEffect::None, &message).into());
        }
        // SAFETY: the same.
        unsafe { p.write(LibxlDomainSnapshot::from_rust(&read)) };
        Ok(())
    })
}

/// Frees an array that `libxl_list_dom_snapshot` gave, with all that it points to.
///
/// # Safety
/// `list` is NULL or such an array of `num` structs, none of which is disposed of elsewhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_domain_snapshot_list_free(list: *mut LibxlDomainSnapshot, num: c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        for snapshot in array_mut(list, num) {
            snapshot.dispose();
        }
        libc::free(list.cast::<c_void>());
    }
}
