//! How often an image is looked at.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant, SystemTime};

use xlsnap_qemu_img::{Image, Kind, Program, QemuImg};

use crate::scratch::{Holder, Scratch, holds, named, qemu_img, write};

/// qemu-img behind a script that notes each run's first words.
struct Counted {
    scratch: Scratch,
    program: Program,
}

impl Counted {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (script, log) = (scratch.path("qemu-img"), scratch.path("runs"));
        let text = format!("#!/bin/sh\necho \"$1\" >> '{}'\nexec qemu-img \"$@\"\n", log.display());
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let program = Program::new(script);
        Self { scratch, program }
    }

    /// The runs since the last question.
    fn runs(&self) -> String {
        let log = self.scratch.path("runs");
        let runs = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(log);
        runs.lines().collect::<Vec<_>>().join(" ")
    }
}

/// Waits until a change of the image would leave another time.
fn settle(image: &Image) {
    let begun = Instant::now();
    loop {
        let found = std::fs::metadata(&image.path).unwrap();
        let changed =
            Duration::new(found.ctime().try_into().unwrap(), found.ctime_nsec().try_into().unwrap());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        if now > changed + Duration::from_millis(20) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the image's time does not pass");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn an_image_that_only_we_write_to_is_looked_at_once() {
    let counted = Counted::new();
    let disk = counted.scratch.qcow2("a");
    let program = &counted.program;
    write(&disk, 1);
    qemu_img(["snapshot", "-c", "one", disk.path.to_str().unwrap()]);
    write(&disk, 2);
    settle(&disk);
    program.info(&disk).await.unwrap();
    program.snapshot_create(&disk, "mark").await.unwrap();
    program.snapshot_apply(&disk, &named("one")).await.unwrap();
    assert_eq!(counted.runs(), "info snapshot snapshot");
    assert!(holds(&disk, 1));
    // The id of one that was made is not known: that is looked up.
    settle(&disk);
    program.snapshot_delete(&disk, &named("mark")).await.unwrap();
    assert_eq!(counted.runs(), "info snapshot");
    let error = program.snapshot_delete(&disk, &named("mark")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    let error = program.snapshot_create(&disk, "one").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Ambiguous, "{error}");
}

#[tokio::test]
async fn an_image_that_another_wrote_to_is_looked_at_again() {
    let counted = Counted::new();
    let disk = counted.scratch.qcow2("a");
    let program = &counted.program;
    let theirs = disk.path.to_str().unwrap();
    qemu_img(["snapshot", "-c", "one", theirs]);
    settle(&disk);
    program.info(&disk).await.unwrap();
    qemu_img(["snapshot", "-d", "one", theirs]);
    qemu_img(["snapshot", "-c", "two", theirs]);
    assert_eq!(counted.runs(), "info");
    // Both have the id 1.
    let error = program.snapshot_apply(&disk, &named("one")).await.unwrap_err();
    assert_eq!((error.kind(), counted.runs().as_str()), (Kind::NotFound, "info"), "{error}");
    // Another file of that name.
    settle(&disk);
    program.info(&disk).await.unwrap();
    counted.runs();
    let other = counted.scratch.qcow2("b");
    std::fs::rename(&other.path, &disk.path).unwrap();
    let error = program.snapshot_apply(&disk, &named("two")).await.unwrap_err();
    assert_eq!((error.kind(), counted.runs().as_str()), (Kind::NotFound, "info"), "{error}");
}

#[tokio::test]
async fn what_was_looked_at_and_did_not_change_is_known() {
    let counted = Counted::new();
    let disk = counted.scratch.qcow2("a");
    let program = &counted.program;
    settle(&disk);
    let first = program.info(&disk).await.unwrap();
    assert_eq!(program.info(&disk).await.unwrap(), first);
    assert_eq!(counted.runs(), "info");
    // One with a lock is read past it, and nothing of that is kept.
    let user = Holder::writing(&disk);
    for _ in 0..2 {
        assert!(program.info(&disk).await.unwrap().in_use);
        assert_eq!(counted.runs(), "info");
    }
    drop(user);
    // What we wrote changed its sizes.
    program.snapshot_create(&disk, "one").await.unwrap();
    counted.runs();
    assert_eq!(program.info(&disk).await.unwrap().snapshots.len(), 1);
    assert_eq!(counted.runs(), "info");
}
