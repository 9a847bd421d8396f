use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What QEMU 10.0.2 writes of an overlay with two snapshots, shortened by nothing.
const OVERLAY: &str = r#"{
    "children": [{"name": "file", "info": {"children": [], "virtual-size": 197120, "filename": "ov.qcow2",
        "format": "file", "actual-size": 200704, "format-specific": {"type": "file", "data": {}}, "dirty-flag": false}}],
    "snapshots": [
        {"icount": 0, "vm-clock-nsec": 0, "name": "s1", "date-sec": 1795409162, "date-nsec": 30, "vm-clock-sec": 0,
         "id": "1", "vm-state-size": 0},
        {"vm-clock-nsec": 0, "name": "", "date-sec": 1795409163, "date-nsec": 0, "vm-clock-sec": 0, "id": "7",
         "vm-state-size": 4096}],
    "backing-filename-format": "qcow2", "virtual-size": 1048576, "filename": "ov.qcow2", "cluster-size": 65536,
    "format": "qcow2", "actual-size": 200704,
    "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "compression-type": "zlib", "lazy-refcounts": false,
        "refcount-bits": 16, "corrupt": false, "extended-l2": false}},
    "full-backing-filename": "/images/base.qcow2", "backing-filename": "base.qcow2", "dirty-flag": false}"#;

#[test]
fn an_overlay() {
    let snapshot = |id: &str, name: &str, date, vm_state_size| InternalSnapshot {
        id: id.into(),
        name: name.into(),
        date,
        vm_state_size,
    };
    let expected = ImageInfo {
        format: "qcow2".into(),
        virtual_size: 1_048_576,
        actual_size: 200_704,
        backing: Some(BackingFile { name: "base.qcow2".into(), format: Some("qcow2".into()) }),
        external_data_file: false,
        corrupt: false,
        encrypted: false,
        bitmaps: vec![],
        in_use: false,
        snapshots: vec![snapshot("1", "s1", 1_795_409_162, 0), snapshot("7", "", 1_795_409_163, 4096)],
    };
    assert_eq!(info(OVERLAY.as_bytes()).unwrap(), expected);
}

#[test]
fn a_raw_image_says_little() {
    let read = info(br#"{"format": "raw", "virtual-size": 512, "later": [1, {"x": null}]}"#).unwrap();
    assert_eq!((read.virtual_size, read.actual_size, read.backing), (512, 0, None));
    assert!(read.snapshots.is_empty() && !read.corrupt && !read.external_data_file);
}

#[test]
fn what_an_image_cannot_be_is_refused() {
    let snapshot = |id: &str, name: &str| json!({"id": id, "name": name, "date-sec": 0, "vm-state-size": 0});
    let with = |key: &str, value: serde_json::Value| {
        let mut whole =
            json!({"format": "qcow2", "virtual-size": 512, "format-specific": {"type": "qcow2", "data": {}}});
        whole[key] = value;
        info(whole.to_string().as_bytes()).map_err(|e| e.kind())
    };
    let long = "x".repeat(MAX_STRING + 1);
    assert_eq!(with("snapshots", json!([snapshot("", "")])), Err(Kind::Corrupt), "a table that is cut off");
    assert_eq!(with("snapshots", json!([snapshot("1", &long)])), Err(Kind::Failed));
    assert_eq!(with("backing-filename", json!(long)), Err(Kind::Failed));
    assert_eq!(with("virtual-size", json!(-1)), Err(Kind::Failed));
    assert_eq!(with("virtual-size", json!(1.5)), Err(Kind::Failed));
    assert_eq!(with("virtual-size", json!("512")), Err(Kind::Failed));
    let with_snapshots = |count| {
        let all = vec![r#"{"id":"1","name":"a","date-sec":0,"vm-state-size":0}"#; count].join(",");
        let whole = format!(r#"{{"format":"qcow2","virtual-size":1,"snapshots":[{all}]}}"#);
        info(whole.as_bytes()).map(|read| read.snapshots.len()).map_err(|e| e.kind())
    };
    assert_eq!(with_snapshots(MAX_SNAPSHOTS), Ok(MAX_SNAPSHOTS));
    assert_eq!(with_snapshots(MAX_SNAPSHOTS + 1), Err(Kind::Failed));
    let deep =
        format!("{{\"format\":\"raw\",\"virtual-size\":1,\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(info(deep.as_bytes()).is_ok(), "what is passed over may be deep, and takes no stack");
}

#[test]
fn an_encrypted_image_with_bitmaps() {
    let read = info(
        br#"{"virtual-size": 67108864, "format": "qcow2", "encrypted": true, "format-specific": {"type": "qcow2", "data": {
            "bitmaps": [{"flags": ["auto"], "name": "bm", "granularity": 65536},
                {"flags": [], "name": "-x,y", "granularity": 65536}],
            "encrypt": {"format": "luks", "slots": [{"active": true, "key-offset": 4096}]}, "corrupt": false}}}"#,
    )
    .unwrap();
    assert!(read.encrypted);
    assert_eq!(read.bitmaps, ["bm", "-x,y"]);
    let many = vec![r#"{"name": "b"}"#; MAX_BITMAPS + 1].join(",");
    let many = format!(
        r#"{{"format":"qcow2","virtual-size":1,"format-specific":{{"type":"qcow2","data":{{"bitmaps":[{many}]}}}}}}"#
    );
    assert_eq!(info(many.as_bytes()).map_err(|e| e.kind()), Err(Kind::Failed));
}

#[test]
fn a_check_leaves_out_zeros() {
    let read = check(br#"{"image-end-offset": 65536, "total-clusters": 64, "check-errors": 0, "leaks": 3}"#)
        .unwrap();
    assert_eq!(read, Check { leaks: 3, ..Check::default() });
    assert_eq!(check(b"{}").map_err(|e| e.kind()), Err(Kind::Failed));
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer_within_the_limits(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(read) = info(&bytes) {
            prop_assert!(read.snapshots.iter().all(|s| !s.id.is_empty()));
        }
        let _ = check(&bytes);
    }

    #[test]
    fn a_changed_byte_gives_an_answer(at in 0..OVERLAY.len(), byte: u8) {
        let mut bytes = OVERLAY.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = info(&bytes);
    }

    #[test]
    fn names_come_back_as_they_are(name in "\\PC{0,60}", id in "[0-9]{1,5}") {
        let whole = json!({"format": "qcow2", "virtual-size": 0,
            "snapshots": [{"id": id, "name": name, "date-sec": 1, "vm-state-size": 2}]});
        let read = info(whole.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&read.snapshots, &[InternalSnapshot { id, name, date: 1, vm_state_size: 2 }]);
    }
}
