//! Layers of a domain whose process may end and start again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xlsnap_orchestrator::{
    Below, Disks, FileIdentity, ImageFile, LayerFile, Layers, Merge, Overlay, Overlays, Pause, PortErrorKind,
    Power, Run, SnapshotAction, Stream,
};
use xlsnap_qemu::Machine;
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::rig::{MIB, Rig, Unwatched};

fn vda() -> DiskName {
    "vda".parse().unwrap()
}

fn layer(file: &Path) -> LayerFile {
    let found = std::fs::metadata(file).unwrap();
    LayerFile {
        disk: vda(),
        file: file.to_str().unwrap().to_owned(),
        format: ImageFormat::Qcow2,
        identity: Some(FileIdentity { device: found.dev(), inode: found.ino() }),
    }
}

fn merge(from: &Path, into: &Path, token: &str) -> Merge {
    Merge {
        from: layer(from),
        into: layer(into),
        active: false,
        above: Vec::new(),
        rate: None,
        token: token.to_owned(),
    }
}

/// An overlay that is made, and not used yet.
async fn made(machine: &Machine, file: &Path, base: &Path) -> Overlay {
    let overlay = Overlay {
        disk: vda(),
        file: file.to_str().unwrap().to_owned(),
        format: ImageFormat::Qcow2,
        base: base.to_str().unwrap().to_owned(),
        base_format: ImageFormat::Qcow2,
        virtual_size: 4 * MIB,
        token: file.file_name().unwrap().to_str().unwrap().replace('.', ""),
    };
    machine.make(&overlay).await.unwrap();
    overlay
}

/// A snapshot: from now on the overlay takes the writes.
async fn taken(machine: &Machine, file: &Path, base: &Path) {
    let overlay = made(machine, file, base).await;
    machine.snapshot(&[SnapshotAction::External(overlay)]).await.unwrap();
    adopt(machine, file).await;
}

async fn adopt(machine: &Machine, file: &Path) {
    machine.adopt(&[(vda(), ImageFile::new(file.to_str().unwrap(), ImageFormat::Qcow2))]).await.unwrap();
}

async fn image(machine: &Machine) -> PathBuf {
    machine.inventory().await.unwrap().disks.remove(0).image.into()
}

#[tokio::test]
async fn two_snapshots_there_back_and_gone() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let pid = rig.pid();
    let base = rig.scratch.path("vda.qcow2");
    let file = |name: &str| rig.scratch.path(name);
    let (first, second, again) = (file("first.qcow2"), file("second.qcow2"), file("again.qcow2"));
    rig.write("vda", 1);
    taken(&machine, &first, &base).await;
    rig.write("vda", 2);
    taken(&machine, &second, &first).await;
    rig.write("vda", 3);

    // Back to the second one's state, in the process that stays, and once there and back as a revert that fails goes.
    machine.stop().await.unwrap();
    made(&machine, &again, &first).await;
    machine.swap(&vda(), &layer(&again)).await.unwrap();
    assert_eq!(rig.read("vda"), 2);
    machine.swap(&vda(), &layer(&second)).await.unwrap();
    assert_eq!(rig.read("vda"), 3);
    machine.swap(&vda(), &layer(&again)).await.unwrap();
    assert_eq!(image(&machine).await, again, "before the description says so");
    adopt(&machine, &again).await;
    machine.unlink(&layer(&second)).await.unwrap();
    machine.reset().await.unwrap();
    machine.resume().await.unwrap();
    rig.write("vda", 4);

    // The first one's state goes: its data is the second one's.
    machine.merge(&merge(&first, &base, "one"), &Unwatched).await.unwrap();
    assert_eq!(rig.status(), "running");
    machine.unlink(&layer(&first)).await.unwrap();
    assert_eq!((rig.pid(), rig.read("vda"), image(&machine).await), (pid, 4, again.clone()));
    // And the other's: the guest stands until the description says which file is the disk.
    machine.merge(&Merge { active: true, ..merge(&again, &base, "two") }, &Unwatched).await.unwrap();
    assert_eq!((rig.status(), image(&machine).await), ("paused".to_owned(), base.clone()));
    adopt(&machine, &base).await;
    machine.unlink(&layer(&again)).await.unwrap();
    machine.resume().await.unwrap();
    rig.write("vda", 5);
    machine.end().await.unwrap();
    machine.start(Run::Runs).await.unwrap();
    assert_eq!(rig.read("vda"), 5);
    assert_eq!(rig.described.disks()[0].file, base.to_str().unwrap());
}

fn stream(into: &Path, was: &Path, below: Option<&Path>, token: &str) -> Stream {
    Stream {
        into: layer(into),
        was: layer(was),
        below: below.map(layer),
        rate: None,
        token: token.to_owned(),
    }
}

/// What an image's header says of what is below it.
async fn base(machine: &Machine, file: &Path) -> Below {
    machine.look(&layer(file)).await.unwrap().unwrap().base
}

/// In the middle of the chain and at its top, down to a lower layer and to nothing; and what QEMU is killed right after.
#[tokio::test]
async fn data_goes_up_under_a_guest_that_runs() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let root = rig.scratch.path("vda.qcow2");
    let file = |name: &str| rig.scratch.path(name);
    let (first, second, third, top) =
        (file("first.qcow2"), file("second.qcow2"), file("third.qcow2"), file("top.qcow2"));
    rig.write("vda", 1);
    taken(&machine, &first, &root).await;
    taken(&machine, &second, &first).await;
    taken(&machine, &third, &second).await;
    taken(&machine, &top, &third).await;
    let is_on = |found: Below, on: &Path| matches!(found, Below::File { file, .. } if Path::new(&file) == on);
    machine.stream(&stream(&third, &second, Some(&first), "one"), &Unwatched).await.unwrap();
    assert!(is_on(base(&machine, &third).await, &first));
    machine.unlink(&layer(&second)).await.unwrap();
    machine.stream(&stream(&top, &third, Some(&root), "two"), &Unwatched).await.unwrap();
    assert!(is_on(base(&machine, &top).await, &root));
    assert_eq!((rig.status().as_str(), rig.read("vda")), ("running", 1));
    // Again is no error, and another program finds it done.
    machine.stream(&stream(&top, &third, Some(&root), "two"), &Unwatched).await.unwrap();
    machine.close().await;
    let next = rig.reach().await;
    let last = stream(&top, &root, None, "three");
    assert!(!next.park_stream(&last).await.unwrap());
    next.stream(&last, &Unwatched).await.unwrap();
    assert_eq!((base(&next, &top).await, image(&next).await), (Below::Nothing, top.clone()));
    assert!(next.park_stream(&last).await.unwrap());
    rig.kill();
    let next = rig.reach().await;
    next.stream(&last, &Unwatched).await.unwrap();
    next.start(Run::Runs).await.unwrap();
    assert_eq!(rig.read("vda"), 1);
    rig.write("vda", 2);
    next.end().await.unwrap();
    // And while it is off.
    let over = file("over.qcow2");
    taken(&next, &over, &top).await;
    next.stream(&stream(&over, &top, None, "four"), &Unwatched).await.unwrap();
    assert_eq!(base(&next, &over).await, Below::Nothing);
    next.start(Run::Runs).await.unwrap();
    assert_eq!(rig.read("vda"), 2);
}

#[tokio::test]
async fn a_process_that_dies_between_the_pivot_and_the_description_loses_nothing() {
    let rig = Rig::new();
    let machine = rig.started().await;
    let (base, top) = (rig.scratch.path("vda.qcow2"), rig.scratch.path("top.qcow2"));
    rig.write("vda", 1);
    taken(&machine, &top, &base).await;
    rig.write("vda", 2);
    // Another xlsnap finds the process as this one left it, and the guest standing.
    machine.merge(&Merge { active: true, ..merge(&top, &base, "one") }, &Unwatched).await.unwrap();
    machine.close().await;
    let next = rig.reach().await;
    assert_eq!(image(&next).await, base);
    next.merge(&Merge { active: true, ..merge(&top, &base, "one") }, &Unwatched).await.unwrap();
    rig.kill();
    // The layer holds the same still, so either is right, and the merge again gives the same.
    let next = rig.reach().await;
    assert_eq!(image(&next).await, top);
    next.merge(&Merge { active: true, ..merge(&top, &base, "one") }, &Unwatched).await.unwrap();
    adopt(&next, &base).await;
    next.unlink(&layer(&top)).await.unwrap();
    assert!(!top.exists());
    next.start(Run::Runs).await.unwrap();
    assert_eq!(rig.read("vda"), 2);
    let error = next.swap(&vda(), &layer(&rig.scratch.path("vdb.qcow2"))).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
}
