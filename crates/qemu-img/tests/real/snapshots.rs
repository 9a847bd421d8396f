//! Which snapshot is meant: ids, names, and where qemu-img mixes them up.

use xlsnap_qemu_img::{Effect, Image, Kind, QemuImg, SnapshotRef};

use crate::scratch::{Scratch, holds, named, named_with_id, program, qemu_img, snapshots, write};

/// A snapshot made by qemu-img itself, without this crate's checks.
fn raw_create(image: &Image, name: &str) {
    qemu_img(["snapshot", "-c", name, image.path.to_str().unwrap()]);
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|&(id, name)| (id.into(), name.into())).collect()
}

#[tokio::test]
async fn a_revert_brings_the_data_back_again_and_again() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    write(&disk, 1);
    program().snapshot_create(&disk, "one").await.unwrap();
    write(&disk, 2);
    program().snapshot_create(&disk, "two").await.unwrap();
    write(&disk, 3);
    for (name, byte) in [("one", 1), ("one", 1), ("two", 2), ("one", 1)] {
        program().snapshot_apply(&disk, &named(name)).await.unwrap();
        assert!(holds(&disk, byte), "{name}");
    }
    program().snapshot_delete(&disk, &named("one")).await.unwrap();
    assert_eq!(snapshots(&disk).await, pairs(&[("2", "two")]));
    assert!(holds(&disk, 1), "what was reverted to stays when its snapshot goes");
    assert_eq!(program().check(&disk, None).await.unwrap(), Default::default());
}

#[tokio::test]
async fn a_name_that_is_anothers_id() {
    // `-a 2` would apply the snapshot with the id 2, and `-d 2` delete the one with the name 2.
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    write(&disk, 1);
    raw_create(&disk, "2");
    write(&disk, 2);
    raw_create(&disk, "one");
    write(&disk, 3);
    assert_eq!(snapshots(&disk).await, pairs(&[("1", "2"), ("2", "one")]));
    program().snapshot_apply(&disk, &named("2")).await.unwrap();
    assert!(holds(&disk, 1));
    program().snapshot_apply(&disk, &named_with_id("one", "2")).await.unwrap();
    assert!(holds(&disk, 2));
    program().snapshot_delete(&disk, &named("one")).await.unwrap();
    assert_eq!(snapshots(&disk).await, pairs(&[("1", "2")]));
    // An id is not a name.
    let error = program().snapshot_apply(&disk, &named("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NotFound, Effect::None), "{error}");
    // And a new name may not be one.
    let error = program().snapshot_create(&disk, "1").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Ambiguous, "{error}");
    assert_eq!(snapshots(&disk).await, pairs(&[("1", "2")]));
}

#[tokio::test]
async fn names_that_are_there_twice() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    write(&disk, 1);
    raw_create(&disk, "x");
    write(&disk, 2);
    raw_create(&disk, "x");
    write(&disk, 3);
    let before = snapshots(&disk).await;
    for result in [
        program().snapshot_create(&disk, "x").await,
        program().snapshot_apply(&disk, &named("x")).await,
        program().snapshot_delete(&disk, &named("x")).await,
        program().snapshot_delete(&disk, &named_with_id("x", "2")).await,
    ] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Ambiguous, Effect::None), "{error}");
    }
    assert_eq!(snapshots(&disk).await, before);
    assert!(holds(&disk, 3));
    // With the id it is clear what to apply.
    program().snapshot_apply(&disk, &named_with_id("x", "1")).await.unwrap();
    assert!(holds(&disk, 1));
}

#[tokio::test]
async fn both_name_and_id_must_match() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    raw_create(&disk, "x");
    raw_create(&disk, "y");
    for wrong in
        [named_with_id("x", "2"), named_with_id("y", "1"), named_with_id("z", "1"), named("z"), named("")]
    {
        for result in
            [program().snapshot_apply(&disk, &wrong).await, program().snapshot_delete(&disk, &wrong).await]
        {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (Kind::NotFound, Effect::None), "{error}");
        }
    }
    assert_eq!(snapshots(&disk).await, pairs(&[("1", "x"), ("2", "y")]));
}

#[tokio::test]
async fn names_as_they_come() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    let longest = "é".repeat(127) + "x";
    let names =
        ["-dash", "--help", "a,b=c", "two words", "größe ☃", "json:{}", "'q' \"q\" \\ %s $(x)", &longest];
    for name in names {
        program().snapshot_create(&disk, name).await.unwrap();
    }
    let found: Vec<String> = snapshots(&disk).await.into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, names);
    for name in names {
        program().snapshot_apply(&disk, &named(name)).await.unwrap();
        program().snapshot_delete(&disk, &named(name)).await.unwrap();
    }
    assert_eq!(snapshots(&disk).await, []);
}

#[tokio::test]
async fn names_that_qemu_would_cut_or_lose() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    for name in ["", "new\nline", "bell\u{7}", "\u{85}", &"x".repeat(256), &"é".repeat(128)] {
        let error = program().snapshot_create(&disk, name).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None), "{error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }
    assert_eq!(snapshots(&disk).await, []);
}

#[tokio::test]
async fn snapshots_of_others_with_names_that_we_would_not_give() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    for name in ["", "new\nline", "a\u{1b}[2Jb"] {
        write(&disk, 1);
        raw_create(&disk, name);
        write(&disk, 2);
        program().snapshot_apply(&disk, &named(name)).await.unwrap();
        assert!(holds(&disk, 1));
        program().snapshot_delete(&disk, &named(name)).await.unwrap();
        assert_eq!(snapshots(&disk).await, []);
    }
}

#[tokio::test]
async fn a_format_without_snapshots_says_so() {
    let scratch = Scratch::new();
    let raw = crate::scratch::image(scratch.path("r"), "raw");
    std::fs::write(&raw.path, vec![0; 4096]).unwrap();
    let error = program().snapshot_create(&raw, "s").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unsupported, Effect::None), "{error}");
    assert_eq!(program().snapshot_delete(&raw, &named("s")).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn the_date_and_the_size_are_told() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let before = now();
    program().snapshot_create(&disk, "s").await.unwrap();
    let info = program().info(&disk).await.unwrap();
    let found = &info.snapshots[0];
    assert!((before..=now()).contains(&found.date), "{found:?}");
    assert_eq!(found.vm_state_size, 0);
    assert_eq!((info.virtual_size, info.in_use, info.corrupt), (1 << 20, false, false));
    assert!(info.actual_size > 0);
    let meant = SnapshotRef { name: found.name.clone(), id: Some(found.id.clone()) };
    program().snapshot_delete(&disk, &meant).await.unwrap();
}
