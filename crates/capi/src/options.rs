//! Structs of options. Each begins with its size, so that it can grow: what a caller's older header does not know is 0, and a
//! newer caller's field is refused unless it is 0.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::{ptr, slice};

use crate::failure::XlsnapError;

/// Called for each step of an operation as it begins: the `number`-th of `total`, and `what` it is. It is called in the thread that
/// called the operation. It must not unwind, nor end the operation by longjmp. A call of this library that works on domains fails in
/// it, for the thread is in the middle of one.
pub type XlsnapProgress =
    Option<unsafe extern "C" fn(data: *mut c_void, number: c_int, total: c_int, what: *const c_char)>;

/// Options of xlsnap_host_open. Zero is the default of each.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct XlsnapHostOptions {
    /// sizeof(xlsnap_host_options).
    pub size: usize,
    /// The directory of records and domain files; by default that of the command `xlsnap`.
    pub root: *const c_char,
    /// The program qemu-img: a path, or a name to be found in PATH.
    pub qemu_img: *const c_char,
    /// How many milliseconds to wait for a domain that another process works on; 5000 by default, below 0 not at all.
    pub lock_wait_ms: i64,
    /// Called for each step.
    pub progress: XlsnapProgress,
    /// Its first argument.
    pub progress_data: *mut c_void,
}

/// Options of xlsnap_create. Zero is the default of each.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct XlsnapCreateOptions {
    /// sizeof(xlsnap_create_options).
    pub size: usize,
    /// The snapshot's name; by default the time.
    pub name: *const c_char,
    /// What its maker says about it.
    pub description: *const c_char,
    /// The disks to take, `num_disks` of them; by default every writable one.
    pub disks: *const *const c_char,
    /// How many `disks` there are.
    pub num_disks: usize,
    /// Not 0: external ones, into new files beside the images.
    pub external: c_int,
    /// The guest's memory too: to this file, an absolute path; "yes": to a file beside the record; "internal": inside the images.
    /// By default the disks alone.
    pub memory: *const c_char,
    /// Not 0: the memory file is packed by zstd.
    pub compress: c_int,
    /// Not 0: the guest's file systems are frozen meanwhile, and its agent has so many milliseconds for each answer.
    pub quiesce_ms: i64,
    /// Above 0: the new files of external ones take the names of the disks' images; below 0: they do not; 0: they do where the domain's
    /// file does not say how it is started, and where they can.
    pub keep_name: c_int,
}

/// Options of xlsnap_revert. Zero is the default of each.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct XlsnapRevertOptions {
    /// sizeof(xlsnap_revert_options).
    pub size: usize,
    /// Make a snapshot of now under this name first.
    pub safety: *const c_char,
    /// Above 0: the guest runs afterwards; below 0: it is paused; 0: as it was.
    pub run: c_int,
    /// Not 0: the process of a domain that runs is ended and started again.
    pub offline: c_int,
    /// Not 0: the disks come back alone, although the snapshot has the guest's memory.
    pub without_memory: c_int,
    /// Not 0: dirty bitmaps of the disks that go back are removed; the next backup that goes by them has to be a full one.
    pub drop_bitmaps: c_int,
}

/// Options of xlsnap_delete. Zero is the default of each.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct XlsnapDeleteOptions {
    /// sizeof(xlsnap_delete_options).
    pub size: usize,
    /// Not 0: its descendants too, from the leaves on.
    pub children: c_int,
    /// Not 0: only the records; images and files stay as they are.
    pub metadata_only: c_int,
    /// Not 0: files that no snapshot needs any more are not merged now: that is what takes long, and a later deletion does it.
    pub no_merge: c_int,
    /// The most bytes that a merge moves in a second; 0: as many as can be.
    pub rate: u64,
    /// Files below the disks' images, absolute, `num_into_base` of them, that are not the domain's and are written to all the same.
    pub into_base: *const *const c_char,
    /// How many `into_base` there are.
    pub num_into_base: usize,
}

/// Options of xlsnap_flatten. Zero is the default of each.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct XlsnapFlattenOptions {
    /// sizeof(xlsnap_flatten_options).
    pub size: usize,
    /// The disks, `num_disks` of them; by default every writable one.
    pub disks: *const *const c_char,
    /// How many `disks` there are.
    pub num_disks: usize,
    /// Not 0: of the snapshots that the domain descends from, all but the nearest `keep` are deleted first.
    pub delete_older: c_int,
    /// How many are kept then.
    pub keep: usize,
    /// The most bytes that are copied in a second; 0: as many as can be.
    pub rate: u64,
    /// Files below the disks' images, absolute, `num_into_base` of them, that are not the domain's: what stands on them goes down into them and is removed.
    pub into_base: *const *const c_char,
    /// How many `into_base` there are.
    pub num_into_base: usize,
}

/// A struct of options.
///
/// # Safety
/// It is `repr(C)`, begins with its size as a `usize`, and is valid when all its bytes are 0 and whatever C puts there.
pub(crate) unsafe trait Versioned: Copy {}

// SAFETY: `repr(C)`, the size comes first, and the rest are numbers and pointers.
unsafe impl Versioned for XlsnapHostOptions {}
// SAFETY: the same.
unsafe impl Versioned for XlsnapCreateOptions {}
// SAFETY: the same.
unsafe impl Versioned for XlsnapRevertOptions {}
// SAFETY: the same.
unsafe impl Versioned for XlsnapDeleteOptions {}
// SAFETY: the same.
unsafe impl Versioned for XlsnapFlattenOptions {}

/// The options as this library knows them; all zero for NULL.
///
/// # Safety
/// `options` is NULL or points to as many bytes as its field `size` says.
pub(crate) unsafe fn read<T: Versioned>(options: *const T) -> Result<T, XlsnapError> {
    let mut known = MaybeUninit::<T>::zeroed();
    if !options.is_null() {
        // SAFETY: not NULL, and the size comes first.
        let size = unsafe { options.cast::<usize>().read() };
        // A struct's size is a multiple of its alignment; another number would cut a field in two.
        if size < size_of::<usize>() || size > 1 << 16 || size % align_of::<T>() != 0 {
            return Err(XlsnapError::invalid("the field `size` of a struct of options is not its size"));
        }
        // SAFETY: the caller promises `size` bytes.
        let given = unsafe { slice::from_raw_parts(options.cast::<u8>(), size) };
        let (ours, newer) = given.split_at(size.min(size_of::<T>()));
        if newer.iter().any(|byte| *byte != 0) {
            return Err(XlsnapError::invalid("an option is set that only a newer libxlsnap knows"));
        }
        // SAFETY: `ours` is not longer than T.
        unsafe { ptr::copy_nonoverlapping(ours.as_ptr(), known.as_mut_ptr().cast::<u8>(), ours.len()) };
    }
    // SAFETY: all zeros, or what the caller put there, is valid: see the trait.
    Ok(unsafe { known.assume_init() })
}
