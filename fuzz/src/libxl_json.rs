use std::fmt::Debug;

use serde::de::IgnoredAny;
use xlsnap_types::libxl::{DiskSnapshot, DomainSnapshot, JsonError, JsonErrorKind, Mode};
use xlsnap_types::model::Snapshot;

/// libxl-json of both structs: exactly JSON is read, strict mode reads a subset with the same values, what is written
/// is read as it was, and an error points into the text.
pub fn libxl_json(data: &[u8]) {
    reads(data, DiskSnapshot::from_json, DiskSnapshot::to_json);
    let Some(snapshot) = reads(data, DomainSnapshot::from_json, DomainSnapshot::to_json) else { return };
    if let Ok(valid) = Snapshot::try_from(&snapshot) {
        let back = DomainSnapshot::try_from(&valid).expect("its formats came from libxl");
        assert_eq!(Snapshot::try_from(&back), Ok(valid));
    }
}

fn reads<T: PartialEq + Debug>(
    data: &[u8],
    read: fn(&[u8], Mode) -> Result<T, JsonError>,
    write: fn(&T) -> String,
) -> Option<T> {
    let is_json = str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let libxl = read(data, Mode::Libxl);
    match read(data, Mode::Strict) {
        Ok(strict) => assert_eq!(libxl.as_ref(), Ok(&strict)),
        Err(error) => {
            let lines = data.iter().filter(|&&byte| byte == b'\n').count() + 1;
            assert!((1..=lines).contains(&error.line) && error.column <= data.len() + 1, "{error}");
            assert!(error.to_string().len() < 4096, "a message is short");
        }
    }
    match libxl {
        Ok(value) => {
            assert!(is_json);
            assert_eq!(read(write(&value).as_bytes(), Mode::Strict).as_ref(), Ok(&value));
            Some(value)
        }
        Err(error) => {
            assert!(!is_json || error.kind() != JsonErrorKind::NotJson, "{error}");
            None
        }
    }
}
