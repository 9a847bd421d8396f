//! Images that other processes have open.

use xlsnap_qemu_img::{Effect, Kind, QemuImg, Repair};

use crate::scratch::{Holder, Scratch, holds, named, program, write};

#[tokio::test]
async fn an_open_image_is_read_and_never_written() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    write(&disk, 1);
    program().snapshot_create(&disk, "s").await.unwrap();
    write(&disk, 2);
    let holder = Holder::writing(&disk);
    let info = program().info(&disk).await.unwrap();
    assert!(info.in_use);
    assert_eq!(info.snapshots.len(), 1);
    let before = std::fs::read(&disk.path).unwrap();
    for result in [
        program().snapshot_create(&disk, "t").await,
        program().snapshot_apply(&disk, &named("s")).await,
        program().snapshot_delete(&disk, &named("s")).await,
        program().check(&disk, None).await.map(drop),
        program().check(&disk, Some(Repair::All)).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Locked, Effect::None), "{error}");
    }
    assert_eq!(std::fs::read(&disk.path).unwrap(), before);
    drop(holder);
    assert!(!program().info(&disk).await.unwrap().in_use);
    program().snapshot_apply(&disk, &named("s")).await.unwrap();
    assert!(holds(&disk, 1));
}

#[tokio::test]
async fn an_image_that_is_only_read_elsewhere_is_not_written_either() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    program().snapshot_create(&disk, "s").await.unwrap();
    let _holder = Holder::reading(&disk);
    assert!(!program().info(&disk).await.unwrap().in_use, "no process writes to it");
    for result in
        [program().snapshot_apply(&disk, &named("s")).await, program().snapshot_create(&disk, "t").await]
    {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Locked, Effect::None), "{error}");
    }
    assert_eq!(program().check(&disk, None).await.unwrap(), Default::default());
}
