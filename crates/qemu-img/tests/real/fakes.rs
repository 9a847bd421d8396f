//! What the real qemu-img won't do on demand, by scripts in its place.

use std::path::PathBuf;
use std::time::Duration;

use xlsnap_qemu_img::{CreateOptions, Effect, Kind, Program, QemuImg};

use crate::scratch::{Scratch, image, named};

fn fake(name: &str) -> Program {
    Program::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/real/fake").join(name))
}

#[tokio::test]
async fn a_program_that_is_not_there() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    for program in [Program::new("/nonexistent/qemu-img"), Program::new(&disk.path)] {
        let error = program.info(&disk).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::NoProgram, Effect::None), "{error}");
        assert!(std::error::Error::source(&error).is_some());
        let new = image(scratch.path("new"), "qcow2");
        let options = CreateOptions { size: Some(512), backing: None, backing_unopened: false };
        assert_eq!(program.create(&new, &options).await.unwrap_err().kind(), Kind::NoProgram);
        assert!(!new.path.exists());
    }
}

#[tokio::test]
async fn output_without_end_is_ended() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    for name in ["endless-stdout", "endless-stderr"] {
        let error = fake(name).with_output_limit(1 << 20).info(&disk).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_look_that_does_not_end_is_ended() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    let error = fake("hangs").with_info_time(Duration::from_millis(50)).info(&disk).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::None));
    assert!(error.to_string().contains("did not end in time"), "{error}");
}

#[tokio::test]
async fn nonsense_is_an_error() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    let error = fake("nonsense").info(&disk).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().contains(disk.path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn an_error_shows_the_command_the_status_and_the_end_of_what_was_said() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("it's, a disk");
    let error = fake("talks").info(&disk).await.unwrap_err();
    let shown = error.to_string();
    let path = disk.path.to_str().unwrap().replace(',', ",,").replace('\'', r"'\''");
    let command = format!(
        "talks info --output=json --image-opts 'driver=qcow2,file.driver=file,file.filename={path}'`"
    );
    assert!(shown.contains(&command), "{shown}");
    assert!(shown.contains("ended with status 1: ... "), "{shown}");
    assert!(shown.ends_with("the last words"), "{shown}");
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert!(shown.len() < 3000 + 2 * path.len(), "{}", shown.len());
}

#[tokio::test]
async fn a_write_that_is_killed_has_an_unknown_effect() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    let error = fake("dies-writing").snapshot_create(&disk, "s").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Failed, Effect::Unknown), "{error}");
    assert!(error.to_string().contains("signal: 9"), "{error}");
    let error = fake("dies-writing").snapshot_delete(&disk, &named("s")).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::NotFound, Effect::None), "{error}");
    let new = image(scratch.path("new"), "qcow2");
    let options = CreateOptions { size: Some(512), backing: None, backing_unopened: false };
    let error = fake("dies-writing").create(&new, &options).await.unwrap_err();
    assert_eq!(error.effect(), Effect::None, "{error}");
    assert!(!new.path.exists());
}

#[tokio::test]
async fn a_write_that_is_not_waited_for_still_ends() {
    let scratch = Scratch::new();
    let disk = scratch.qcow2("a");
    let (begun, done) = (scratch.path("a.begun"), scratch.path("a.done"));
    let program = fake("slow-writing");
    let write = program.snapshot_create(&disk, "s");
    let started = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        result = write => panic!("the write waits for a file: {result:?}"),
        () = started => {}
    }
    // The future is dropped; the program is let on.
    std::fs::write(scratch.path("a.go"), "").unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !done.exists() {
        assert!(std::time::Instant::now() < deadline, "it did not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_create_that_is_not_waited_for_leaves_no_file() {
    let scratch = Scratch::new();
    let new = image(scratch.path("new"), "qcow2");
    let options = CreateOptions { size: Some(512), backing: None, backing_unopened: false };
    let program = fake("hangs");
    let made = async {
        while !new.path.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        result = program.create(&new, &options) => panic!("the program hangs: {result:?}"),
        () = made => {}
    }
    assert_eq!(scratch.files(), Vec::<String>::new());
}
