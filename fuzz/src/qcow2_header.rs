use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tempfile::TempDir;
use xlsnap_qemu_img::{HeaderFiles, header_files};

thread_local! {
    static DIRECTORY: TempDir = tempfile::tempdir().expect("a directory can be made");
}

/// The header of an image: any bytes name files of this host, or none, and what is no qcow2 names none.
pub fn qcow2_header(data: &[u8]) {
    DIRECTORY.with(|directory| {
        let image = directory.path().join("image");
        fs::write(&image, data).expect("the image can be written");
        // An end before what the header names is an error.
        let Ok(named) = header_files(&image) else { return };
        if !data.starts_with(b"QFI\xfb") {
            assert_eq!(named, HeaderFiles::default());
        }
        for file in named.backing.iter().chain(&named.data) {
            is_file_of_host(file, directory.path());
        }
    });
}

fn is_file_of_host(file: &Path, directory: &Path) {
    assert!(file.is_absolute(), "{file:?}");
    let bytes = file.as_os_str().as_bytes();
    assert!(!bytes.contains(&0), "no file has such a name: {file:?}");
    let inside = file.strip_prefix(directory).map(|name| name.as_os_str().as_bytes()).unwrap_or_default();
    let first = inside.split(|byte| *byte == b'/').next().unwrap_or_default();
    assert!(!first.contains(&b':'), "the name is a protocol's: {file:?}");
}
