use xlsnap_qemu_img::{ImageInfo, Kind, json};

/// qemu-img's JSON: any bytes give a value within the limits or a short error that had no effect.
pub fn qemu_img_json(data: &[u8]) {
    match json::info(data) {
        Ok(info) => within_limits(&info),
        Err(error) => {
            assert!(matches!(error.kind(), Kind::Corrupt | Kind::Failed), "{error}");
            assert!(error.to_string().len() < 200, "a message quotes nothing of what was read");
        }
    }
    if let Err(error) = json::check(data) {
        assert_eq!(error.kind(), Kind::Failed);
    }
}

fn within_limits(info: &ImageInfo) {
    assert!(!info.in_use, "that is not in it");
    assert!(info.snapshots.len() <= json::MAX_SNAPSHOTS);
    for snapshot in &info.snapshots {
        assert!(!snapshot.id.is_empty());
        assert!(snapshot.id.len() <= json::MAX_STRING && snapshot.name.len() <= json::MAX_STRING);
    }
    if let Some(backing) = &info.backing {
        assert!(backing.name.len() <= json::MAX_STRING);
    }
}
