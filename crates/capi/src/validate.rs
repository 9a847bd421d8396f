//! What a caller's arrays and structs must be before anything is done with them, and the same in Rust.

use std::ffi::c_char;
use std::fmt::Display;
use std::slice;

use xlsnap_types::libxl::{self, DiskFields, DiskFormat, DomainFields};

use crate::failure::XlsnapError;
use crate::host::argument;
use crate::structs::{LibxlBool, LibxlDiskSnapshot, LibxlDomainSnapshot};

/// The most disks of one struct or call. A record of the store, 4 MiB, holds fewer; a number above is one that was never set.
pub(crate) const MOST_DISKS: usize = 1 << 16;

/// An array of the caller's. Its name and its count's are those of C.
///
/// # Errors
/// When the count is below 0 or above [`MOST_DISKS`], or the array is NULL and the count is not 0.
///
/// # Safety
/// `first` is NULL or points to `count` valid values that nothing changes during `'a`.
pub(crate) unsafe fn array<'a, T, N>(
    (array, number): (&str, &str),
    first: *const T,
    count: N,
) -> Result<&'a [T], XlsnapError>
where
    N: TryInto<usize> + Display + Copy,
{
    let invalid = |problem: String| Err(XlsnapError::invalid(&format!("{number} is {count}{problem}")));
    match count.try_into() {
        Err(_) => invalid(", and a number of disks is not below 0".to_owned()),
        Ok(0) => Ok(&[]),
        Ok(count) if count > MOST_DISKS => invalid(format!("; at most {MOST_DISKS} are taken")),
        Ok(_) if first.is_null() => {
            invalid(format!(", and {array} is NULL")).map_err(|e| e.advise("set both, or the number to 0"))
        }
        // SAFETY: not NULL, and the caller promises so many.
        Ok(count) => Ok(unsafe { slice::from_raw_parts(first, count) }),
    }
}

/// Texts of the caller's, `count` of them from `first` on; each is there.
///
/// # Safety
/// `first` is NULL or points to `count` pointers, each NULL or to a NUL-terminated string, that nothing changes during `'a`.
pub(crate) unsafe fn texts<'a>(
    (array, number): (&'a str, &str),
    first: *const *const c_char,
    count: usize,
) -> Result<impl Iterator<Item = Result<&'a str, XlsnapError>>, XlsnapError> {
    // SAFETY: the caller's promise.
    let texts = unsafe { self::array((array, number), first, count)? };
    Ok(texts.iter().enumerate().map(move |(at, text)| {
        // SAFETY: the caller's promise.
        let text = unsafe { argument(format_args!("{array}[{at}]"), *text)? };
        text.ok_or_else(|| XlsnapError::invalid(&format!("{array}[{at}] is NULL")))
    }))
}

/// A bool of C, which is a byte that a program may never have set.
fn flag(field: &str, value: LibxlBool) -> Result<bool, XlsnapError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => {
            let message = format!("{field} is neither true nor false but {other}");
            Err(XlsnapError::invalid(&message).advise("call the struct's _init function before it is filled"))
        }
    }
}

fn owned(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("`fields` gives UTF-8 alone"))
}

impl LibxlDiskSnapshot {
    /// The struct borrowed. Messages name its fields after `place`: `disks[1].`.
    ///
    /// # Errors
    /// When a string is not UTF-8.
    ///
    /// # Safety
    /// Every pointer in it is NULL or points to a NUL-terminated string.
    pub(crate) unsafe fn fields(&self, place: &str) -> Result<DiskFields<'_>, XlsnapError> {
        let bytes = |field: &str, string| {
            // SAFETY: the caller's promise; the string is borrowed no longer than the struct.
            unsafe { argument(format_args!("{place}{field}"), string) }.map(|text| text.map(str::as_bytes))
        };
        Ok(DiskFields {
            device: bytes("device", self.device)?,
            name: bytes("name", self.name)?,
            file: bytes("file", self.file)?,
            format: self.format.cast_signed(),
            path: bytes("path", self.path)?,
        })
    }

    /// The same in Rust.
    ///
    /// # Errors
    /// When a string is not UTF-8, or the format is none of libxl's.
    ///
    /// # Safety
    /// As [`Self::fields`].
    pub(crate) unsafe fn to_rust(&self, place: &str) -> Result<libxl::DiskSnapshot, XlsnapError> {
        // SAFETY: the caller's promise.
        disk(unsafe { self.fields(place)? }, place)
    }
}

fn disk(fields: DiskFields<'_>, place: &str) -> Result<libxl::DiskSnapshot, XlsnapError> {
    let format = DiskFormat::from_number(fields.format).ok_or_else(|| {
        let message = format!("{place}format is {}, which is no libxl_disk_format", fields.format);
        XlsnapError::invalid(&message)
            .advise("an internal snapshot has LIBXL_DISK_FORMAT_UNKNOWN, which is 0")
    })?;
    Ok(libxl::DiskSnapshot {
        device: owned(fields.device),
        name: owned(fields.name),
        file: owned(fields.file),
        format,
        path: owned(fields.path),
    })
}

/// Where a message says that a disk of a domain's struct is.
fn place(index: usize) -> String {
    format!("disks[{index}].")
}

impl LibxlDomainSnapshot {
    /// The struct borrowed, disks included.
    ///
    /// # Errors
    /// When the disks and their number do not fit together (see [`array`]), a flag is no bool, or a string is not UTF-8.
    ///
    /// # Safety
    /// Every string in it and in its disks is NULL or NUL-terminated; `disks` is NULL or points to `num_disks` valid structs.
    pub(crate) unsafe fn fields(&self) -> Result<DomainFields<'_, Vec<DiskFields<'_>>>, XlsnapError> {
        // SAFETY: the caller's promise.
        let disks = unsafe { array(("disks", "num_disks"), self.disks, self.num_disks)? };
        let bytes = |field: &str, string| {
            // SAFETY: the caller's promise; the string is borrowed no longer than the struct.
            unsafe { argument(field, string) }.map(|text| text.map(str::as_bytes))
        };
        Ok(DomainFields {
            name: bytes("name", self.name)?,
            description: bytes("description", self.description)?,
            creation_time: self.creation_time,
            memory: bytes("memory", self.memory)?,
            running: flag("running", self.running)?,
            blocked: flag("blocked", self.blocked)?,
            paused: flag("paused", self.paused)?,
            shutdown: flag("shutdown", self.shutdown)?,
            dying: flag("dying", self.dying)?,
            disks: disks
                .iter()
                .enumerate()
                // SAFETY: the caller's promise.
                .map(|(index, disk)| unsafe { disk.fields(&place(index)) })
                .collect::<Result<_, _>>()?,
        })
    }

    /// The same in Rust.
    ///
    /// # Errors
    /// As [`Self::fields`], and when a disk's format is none of libxl's.
    ///
    /// # Safety
    /// As [`Self::fields`].
    pub(crate) unsafe fn to_rust(&self) -> Result<libxl::DomainSnapshot, XlsnapError> {
        // SAFETY: the caller's promise.
        let fields = unsafe { self.fields()? };
        let disks = fields.disks.into_iter().enumerate();
        Ok(libxl::DomainSnapshot {
            name: owned(fields.name),
            description: owned(fields.description),
            creation_time: fields.creation_time,
            memory: owned(fields.memory),
            running: fields.running,
            blocked: fields.blocked,
            paused: fields.paused,
            shutdown: fields.shutdown,
            dying: fields.dying,
            disks: disks.map(|(index, fields)| disk(fields, &place(index))).collect::<Result<_, _>>()?,
        })
    }
}
