//! The design's two structs as C has them, and what libxl generates for each: init, dispose, copy, and JSON.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::{ptr, slice};

use xlsnap_types::libxl::{self, DiskFields, DomainFields, Mode};

use crate::error::{ERROR_FAIL, ERROR_INVAL, guard, guard_or};
use crate::string::{alloc, alloc_or_null, bytes, out_of_memory, text};

/// libxl's context. It is never looked into, and may be NULL.
#[repr(C)]
pub struct LibxlCtx {
    _opaque: [u8; 0],
}

/// `libxl_disk_format`: C's type of it is in the header, libxl's own where that is there.
pub type LibxlDiskFormat = c_uint;

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
    pub running: bool,
    /// All its virtual CPUs were blocked.
    pub blocked: bool,
    /// It was paused.
    pub paused: bool,
    /// It had shut down.
    pub shutdown: bool,
    /// It was dying.
    pub dying: bool,
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

    /// # Safety
    /// Every pointer in it is NULL or points to a NUL-terminated string.
    unsafe fn fields(&self) -> DiskFields<'_> {
        // SAFETY: the caller's promise; the strings are borrowed no longer than the struct.
        unsafe {
            DiskFields {
                device: bytes(self.device),
                name: bytes(self.name),
                file: bytes(self.file),
                format: self.format.cast_signed(),
                path: bytes(self.path),
            }
        }
    }

    pub(crate) fn from_rust(disk: &libxl::DiskSnapshot) -> Self {
        Self {
            device: alloc_or_null(disk.device.as_deref()),
            name: alloc_or_null(disk.name.as_deref()),
            file: alloc_or_null(disk.file.as_deref()),
            format: disk.format.number().cast_unsigned(),
            path: alloc_or_null(disk.path.as_deref()),
        }
    }

    /// The same in Rust; `Err` names the field that Rust cannot hold.
    ///
    /// # Safety
    /// As [`Self::fields`].
    pub(crate) unsafe fn to_rust(&self) -> Result<libxl::DiskSnapshot, &'static str> {
        let own = |string: *mut c_char, field| {
            // SAFETY: the caller's promise.
            unsafe { text(string) }.map(|text| text.map(str::to_owned)).map_err(|_| field)
        };
        Ok(libxl::DiskSnapshot {
            device: own(self.device, "device")?,
            name: own(self.name, "name")?,
            file: own(self.file, "file")?,
            format: libxl::DiskFormat::from_number(self.format.cast_signed()).ok_or("format")?,
            path: own(self.path, "path")?,
        })
    }

    /// Frees what it points to, and leaves it as after init.
    ///
    /// # Safety
    /// Every pointer in it is NULL or comes from malloc and is freed by nobody else.
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
        running: false,
        blocked: false,
        paused: false,
        shutdown: false,
        dying: false,
        num_disks: 0,
        disks: ptr::null_mut(),
    };

    /// The disks; none when the pointer is NULL or the number is not above zero.
    ///
    /// # Safety
    /// `disks` is NULL or points to `num_disks` valid structs.
    unsafe fn disks(&self) -> &[LibxlDiskSnapshot] {
        // SAFETY: the caller's promise.
        unsafe { array(self.disks, self.num_disks) }
    }

    pub(crate) fn from_rust(snapshot: &libxl::DomainSnapshot) -> Self {
        Self {
            name: alloc_or_null(snapshot.name.as_deref()),
            description: alloc_or_null(snapshot.description.as_deref()),
            creation_time: snapshot.creation_time,
            memory: alloc_or_null(snapshot.memory.as_deref()),
            running: snapshot.running,
            blocked: snapshot.blocked,
            paused: snapshot.paused,
            shutdown: snapshot.shutdown,
            dying: snapshot.dying,
            num_disks: c_int::try_from(snapshot.disks.len())
                .expect("a text that was read has fewer than 2^31 disks"),
            disks: alloc_array(snapshot.disks.iter().map(LibxlDiskSnapshot::from_rust)),
        }
    }

    /// The same in Rust; `Err` names the field that Rust cannot hold.
    ///
    /// # Safety
    /// Every string in it and in its disks is NULL or NUL-terminated, and `disks` is as [`Self::disks`] wants it.
    pub(crate) unsafe fn to_rust(&self) -> Result<libxl::DomainSnapshot, &'static str> {
        let own = |string: *mut c_char, field| {
            // SAFETY: the caller's promise.
            unsafe { text(string) }.map(|text| text.map(str::to_owned)).map_err(|_| field)
        };
        Ok(libxl::DomainSnapshot {
            name: own(self.name, "name")?,
            description: own(self.description, "description")?,
            creation_time: self.creation_time,
            memory: own(self.memory, "memory")?,
            running: self.running,
            blocked: self.blocked,
            paused: self.paused,
            shutdown: self.shutdown,
            dying: self.dying,
            // SAFETY: the caller's promise.
            disks: unsafe { self.disks().iter().map(|disk| disk.to_rust()).collect::<Result<_, _>>()? },
        })
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
    /// Every pointer in it and in its disks is NULL or comes from malloc and is freed by nobody else.
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
/// `first` is NULL or points to `count` valid values that nobody changes during `'a`.
pub(crate) unsafe fn array<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if !first.is_null() => unsafe { slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

/// # Safety
/// `first` is NULL or points to `count` valid values that nobody else uses during `'a`.
unsafe fn array_mut<'a, T>(first: *mut T, count: c_int) -> &'a mut [T] {
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

/// What was written, for C; NULL when a string of the struct was not UTF-8.
fn json(write: impl FnOnce(&mut Vec<u8>)) -> *mut c_char {
    let mut out = Vec::with_capacity(512);
    write(&mut out);
    if std::str::from_utf8(&out).is_ok() { alloc(&out) } else { ptr::null_mut() }
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

/// The struct as libxl-json, to be freed by the caller; NULL when `p` is NULL or a string in it is not UTF-8.
///
/// # Safety
/// `p` is NULL or points to a valid struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_disk_snapshot_to_json(
    _ctx: *mut LibxlCtx,
    p: *mut LibxlDiskSnapshot,
) -> *mut c_char {
    guard_or(ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let Some(disk) = (unsafe { p.as_ref() }) else { return ptr::null_mut() };
        // SAFETY: the caller's promise.
        let fields = unsafe { disk.fields() };
        json(|out| fields.append_json(out))
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
    guard(|| {
        // SAFETY: the caller's promise.
        let (false, Some(json)) = (p.is_null(), unsafe { bytes(s) }) else { return ERROR_INVAL };
        let read = libxl::DiskSnapshot::from_json(json, Mode::Libxl);
        // SAFETY: `p` is not NULL.
        unsafe {
            p.write(read.as_ref().map_or(LibxlDiskSnapshot::INIT, LibxlDiskSnapshot::from_rust));
        }
        if read.is_ok() { 0 } else { ERROR_FAIL }
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
        let disks = src.disks();
        dst.write(LibxlDomainSnapshot {
            name: copy_string(src.name),
            description: copy_string(src.description),
            memory: copy_string(src.memory),
            num_disks: c_int::try_from(disks.len()).expect("it was a number of C before"),
            disks: alloc_array(disks.iter().map(|disk| copy_disk(disk))),
            ..*src
        });
    }
}

/// The struct as libxl-json, to be freed by the caller; NULL when `p` is NULL or a string in it is not UTF-8.
///
/// # Safety
/// `p` is NULL or points to a valid struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libxl_domain_snapshot_to_json(
    _ctx: *mut LibxlCtx,
    p: *mut LibxlDomainSnapshot,
) -> *mut c_char {
    guard_or(ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let Some(snapshot) = (unsafe { p.as_ref() }) else { return ptr::null_mut() };
        // SAFETY: the caller's promise.
        let fields = unsafe {
            DomainFields {
                name: bytes(snapshot.name),
                description: bytes(snapshot.description),
                creation_time: snapshot.creation_time,
                memory: bytes(snapshot.memory),
                running: snapshot.running,
                blocked: snapshot.blocked,
                paused: snapshot.paused,
                shutdown: snapshot.shutdown,
                dying: snapshot.dying,
                disks: snapshot.disks().iter().map(|disk| disk.fields()),
            }
        };
        json(|out| fields.append_json(out))
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
pub unsafe extern "C" fn libxl_domain_snapshot_from_json(
    _ctx: *mut LibxlCtx,
    p: *mut LibxlDomainSnapshot,
    s: *const c_char,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let (false, Some(json)) = (p.is_null(), unsafe { bytes(s) }) else { return ERROR_INVAL };
        let read = libxl::DomainSnapshot::from_json(json, Mode::Libxl);
        // SAFETY: `p` is not NULL.
        unsafe {
            p.write(read.as_ref().map_or(LibxlDomainSnapshot::INIT, LibxlDomainSnapshot::from_rust));
        }
        if read.is_ok() { 0 } else { ERROR_FAIL }
    })
}

/// Frees an array that `libxl_list_dom_snapshot` gave, with all that it points to.
///
/// # Safety
/// `list` is NULL or such an array of `num` structs, each disposed of by nobody else.
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
