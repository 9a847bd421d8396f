//! What qemu-img writes with `--output=json`, as this crate's types: for programs that run qemu-img themselves.
//!
//! The text is untrusted: most of it comes from an image's header. Members that are not known are passed over, missing
//! ones are what QEMU means by leaving them out (docs/interop/qemu-qapi `ImageInfo`, `ImageCheck`).

use serde::Deserialize;

use crate::{BackingFile, Check, Error, ImageInfo, InternalSnapshot, Kind};

/// The most snapshots that a qcow2 image can have (QEMU's `QCOW_MAX_SNAPSHOTS`).
pub const MAX_SNAPSHOTS: usize = 65_536;

/// The most dirty bitmaps that a qcow2 image can have (QEMU's `QCOW2_MAX_BITMAPS`).
pub const MAX_BITMAPS: usize = 65_535;

/// The longest string that is taken from an image, in bytes: more than QEMU's own limit on a backing file's name.
pub const MAX_STRING: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawInfo {
    format: String,
    virtual_size: u64,
    #[serde(default)]
    actual_size: u64,
    backing_filename: Option<String>,
    full_backing_filename: Option<String>,
    backing_filename_format: Option<String>,
    #[serde(default)]
    snapshots: Vec<RawSnapshot>,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    format_specific: RawSpecific,
}

#[derive(Deserialize, Default)]
struct RawSpecific {
    #[serde(default)]
    data: RawData,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct RawData {
    data_file: Option<String>,
    #[serde(default)]
    corrupt: bool,
    #[serde(default)]
    bitmaps: Vec<RawBitmap>,
}

#[derive(Deserialize)]
struct RawBitmap {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawSnapshot {
    id: String,
    name: String,
    date_sec: u64,
    vm_state_size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawCheck {
    #[serde(default)]
    leaks: u64,
    #[serde(default)]
    corruptions: u64,
    check_errors: u64,
    #[serde(default)]
    leaks_fixed: u64,
    #[serde(default)]
    corruptions_fixed: u64,
}

/// Reads the output of `qemu-img info --output=json`. [`ImageInfo::in_use`] is not in it and comes out false.
///
/// # Errors
/// [`Kind::Corrupt`] for a snapshot table that is cut off: QEMU shows its lost entries without an id. [`Kind::Failed`]
/// for what is not such output, and for strings or lists beyond [`MAX_STRING`], [`MAX_SNAPSHOTS`] and
/// [`MAX_BITMAPS`].
pub fn info(output: &[u8]) -> Result<ImageInfo, Error> {
    let raw: RawInfo = serde_json::from_slice(output)
        .map_err(|source| unreadable("what qemu-img info wrote is not understood").with_source(source))?;
    if raw.snapshots.len() > MAX_SNAPSHOTS {
        return Err(unreadable("the image has more snapshots than a qcow2 image can have"));
    }
    if raw.format_specific.data.bitmaps.len() > MAX_BITMAPS {
        return Err(unreadable("the image has more dirty bitmaps than a qcow2 image can have"));
    }
    let strings = [Some(&raw.format), raw.backing_filename.as_ref(), raw.full_backing_filename.as_ref()];
    let names = raw.snapshots.iter().flat_map(|s| [&s.id, &s.name]);
    let bitmaps = raw.format_specific.data.bitmaps.iter().map(|bitmap| &bitmap.name);
    let all = strings.into_iter().flatten().chain(&raw.backing_filename_format).chain(names).chain(bitmaps);
    if all.into_iter().any(|s| s.len() > MAX_STRING) {
        return Err(unreadable("the image's header has a longer string than an image can have"));
    }
    if raw.snapshots.iter().any(|s| s.id.is_empty()) {
        return Err(Error::new(Kind::Corrupt, "the image's snapshot table is cut off"));
    }
    let RawData { data_file, corrupt, bitmaps } = raw.format_specific.data;
    let backing_format = raw.backing_filename_format;
    Ok(ImageInfo {
        format: raw.format,
        virtual_size: raw.virtual_size,
        actual_size: raw.actual_size,
        backing: raw.backing_filename.map(|name| BackingFile { name, format: backing_format }),
        external_data_file: data_file.is_some(),
        corrupt,
        encrypted: raw.encrypted,
        bitmaps: bitmaps.into_iter().map(|bitmap| bitmap.name).collect(),
        in_use: false,
        snapshots: raw.snapshots.into_iter().map(InternalSnapshot::from).collect(),
    })
}

/// Reads the output of `qemu-img check --output=json`, which leaves out what is zero.
///
/// # Errors
/// [`Kind::Failed`] for what is not such output.
pub fn check(output: &[u8]) -> Result<Check, Error> {
    let raw: RawCheck = serde_json::from_slice(output)
        .map_err(|source| unreadable("what qemu-img check wrote is not understood").with_source(source))?;
    Ok(Check {
        leaks: raw.leaks,
        corruptions: raw.corruptions,
        check_errors: raw.check_errors,
        leaks_fixed: raw.leaks_fixed,
        corruptions_fixed: raw.corruptions_fixed,
    })
}

impl From<RawSnapshot> for InternalSnapshot {
    fn from(raw: RawSnapshot) -> Self {
        Self { id: raw.id, name: raw.name, date: raw.date_sec, vm_state_size: raw.vm_state_size }
    }
}

fn unreadable(message: &str) -> Error {
    Error::new(Kind::Failed, message)
}

#[cfg(test)]
mod tests;
