//! Names that planning gives.

use xlsnap_types::model::{ImageFormat, SnapshotName};

/// An overlay's file beside the disk's image: `/images/a.qcow2` and snapshot `s` give `/images/a.s.qcow2`. Work on the
/// string alone; only an extension of up to 8 ASCII letters and digits is taken for one.
pub fn overlay_beside(image: &str, name: &SnapshotName, format: &ImageFormat) -> String {
    file_beside(image, name.as_str(), format)
}

/// The same for any word.
pub(crate) fn file_beside(image: &str, name: &str, format: &ImageFormat) -> String {
    let file = image.rfind('/').map_or(0, |slash| slash + 1);
    let stem = match image[file..].rfind('.') {
        Some(dot) if dot > 0 && is_extension(&image[file + dot + 1..]) => &image[..file + dot],
        _ => image,
    };
    let extension = match format {
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow => "qcow",
        ImageFormat::Qed => "qed",
        ImageFormat::Vpc => "vhd",
        _ => "img",
    };
    format!("{stem}.{name}.{extension}")
}

fn is_extension(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}
