use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn image(path: impl Into<PathBuf>) -> Image {
    Image::new(path, "qcow2")
}

/// How QEMU's option parser splits: at single commas, two are one.
fn split(value: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = value.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if byte != b',' {
            parts.last_mut().unwrap().push(byte);
        } else if bytes.next_if_eq(&&b',').is_some() {
            parts.last_mut().unwrap().push(b',');
        } else {
            parts.push(Vec::new());
        }
    }
    parts
}

proptest! {
    #[test]
    fn a_path_stays_one_option(bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b','), 1 => Just(b'=')], 0..64)) {
        let path = PathBuf::from(OsString::from_vec(bytes.clone()));
        let value = image_opts(&image(path), Protocol::File, Key::No).unwrap();
        let expected: Vec<Vec<u8>> =
            vec![b"driver=qcow2".to_vec(), b"file.driver=file".to_vec(), [b"file.filename=", &*bytes].concat()];
        prop_assert_eq!(split(value.as_bytes()), expected);
    }

    #[test]
    fn a_path_stays_one_string_of_the_json(path in "\\PC*[,\"\\\\\n]\\PC*") {
        let value = json_without_backing(&image(&path), Protocol::HostDevice, Key::No).unwrap();
        let json = value.to_str().unwrap().strip_prefix("json:").unwrap();
        let read: serde_json::Value = serde_json::from_str(json).unwrap();
        prop_assert_eq!(
            read,
            serde_json::json!({"driver": "qcow2", "backing": null, "file": {"driver": "host_device", "filename": path}})
        );
    }

    #[test]
    fn a_key_file_stays_one_option(bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b','), 1 => Just(b'=')], 0..64)) {
        let value = secret(Path::new(OsStr::from_bytes(&bytes)));
        let expected: Vec<Vec<u8>> = vec![b"secret".to_vec(), b"id=key".to_vec(), [b"file=", &*bytes].concat()];
        prop_assert_eq!(split(value.as_bytes()), expected);
    }

    #[test]
    fn nothing_quoted_controls_a_terminal(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let quoted = quote(&OsString::from_vec(bytes));
        prop_assert!(!quoted.chars().any(char::is_control));
    }
}

#[test]
fn words_are_quoted_as_for_a_shell() {
    let check = |word: &[u8], expected: &str| assert_eq!(quote(OsStr::from_bytes(word)), expected);
    check(b"/var/lib/a.qcow2", "/var/lib/a.qcow2");
    check(b"", "''");
    check(b"two words", "'two words'");
    check(b"it's", r"'it'\''s'");
    check("größe".as_bytes(), "'größe'");
    check(b"\x1b[2Jx", r"$'\033[2Jx'");
    check(b"a\n'\xff1", r"$'a\012\'\3771'");
    check("\u{9b}".as_bytes(), r"$'\302\233'");
}

#[test]
fn a_key_is_named_as_its_driver_names_it() {
    let value = |format| image_opts(&Image::new("/i", format), Protocol::File, Key::Given).unwrap();
    assert_eq!(value("qcow2"), "driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename=/i");
    assert_eq!(value("luks"), "driver=luks,key-secret=key,file.driver=file,file.filename=/i");
    let json = json_without_backing(&Image::new("/i", "qcow2"), Protocol::File, Key::Given).unwrap();
    assert!(json.to_str().unwrap().contains(r#""encrypt.key-secret":"key""#), "{json:?}");
}

#[test]
fn a_format_brings_no_options_along() {
    for bad in ["", "qcow2,backing=x", "-x", "a=b", "fmt\n", &"x".repeat(33)] {
        let error = checked_format(bad).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{bad:?}");
    }
    for good in ["qcow2", "raw", "copy-on-read", "host_device"] {
        assert_eq!(checked_format(good).unwrap(), good);
    }
}
