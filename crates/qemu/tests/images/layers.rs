//! The files of chains of a domain that is off.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use xlsnap_orchestrator::{
    Below, Effect, FileIdentity, LayerFile, Layers, Merge, PortErrorKind, Progress, SnapshotId,
};
use xlsnap_qemu::Images;
use xlsnap_testkit::real::{Data, Scratch, StorageDaemon, holds_offline, qemu_img, write_offline};
use xlsnap_types::model::ImageFormat;

use crate::{MIB, chain, images, name, qcow2};

/// What was told of bytes.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, Option<u64>)>>);

impl Progress for Told {
    fn step(&self, _: usize, _: usize, _: &str) {}

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().push((done, total));
    }
}

fn identity(file: &Path) -> Option<FileIdentity> {
    let found = std::fs::metadata(file).unwrap();
    Some(FileIdentity { device: found.dev(), inode: found.ino() })
}

fn layer(file: &Path) -> LayerFile {
    LayerFile {
        disk: name("vda"),
        file: file.to_str().unwrap().to_owned(),
        format: ImageFormat::Qcow2,
        identity: identity(file),
    }
}

fn merge(from: &Path, into: &Path) -> Merge {
    Merge {
        from: layer(from),
        into: layer(into),
        active: false,
        above: Vec::new(),
        rate: None,
        token: "abc".into(),
    }
}

/// A base with a snapshot inside, a middle, a top and a second child of the middle, by relative names; each holds its own data.
struct Tree {
    scratch: Scratch,
    base: PathBuf,
    middle: PathBuf,
    top: PathBuf,
    second: PathBuf,
    domain: Images,
}

impl Tree {
    fn new() -> Self {
        let scratch = Scratch::new();
        let base = scratch.qcow2_with("base", MIB, 1);
        qemu_img(&["snapshot", "-c", "inside", base.to_str().unwrap()]);
        let on = |file: &str, base: &str, byte| {
            let path = scratch.path(file);
            qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path.to_str().unwrap()]);
            write_offline(&path, "qcow2", Data::of(byte).at(u64::from(byte) * 128 * 1024));
            path
        };
        let middle = on("middle", "base", 2);
        let (top, second) = (on("top", "middle", 3), on("second", "middle", 4));
        let domain = images(vec![qcow2("vda", &top)]);
        Self { scratch, base, middle, top, second, domain }
    }
}

fn holds(file: &Path, byte: u8) -> bool {
    holds_offline(file, "qcow2", Data::of(byte).at(u64::from(byte) * 128 * 1024))
}

#[tokio::test]
async fn a_look_reads_one_header() {
    let Tree { scratch, base, middle, domain, .. } = Tree::new();
    let found = domain.look(&layer(&middle)).await.unwrap().unwrap();
    assert_eq!(found.identity, identity(&middle).unwrap());
    assert_eq!(found.virtual_size, MIB);
    let stat = std::fs::metadata(&middle).unwrap();
    assert_eq!(found.bytes, stat.blocks() * 512);
    let stamp = found.stamp.unwrap();
    assert_eq!(stamp.length, stat.len());
    assert_eq!(
        u128::from(stamp.modified),
        stat.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
    );
    assert!(!found.in_use && !found.encrypted && found.snapshots.is_empty());
    let below = Below::File { file: base.to_str().unwrap().to_owned(), format: Some(ImageFormat::Qcow2) };
    assert_eq!(found.base, below);
    let found = domain.look(&layer(&base)).await.unwrap().unwrap();
    assert_eq!((found.base, found.snapshots[0].name.as_str()), (Below::Nothing, "inside"));
    write_offline(&base, "qcow2", Data::of(9));
    assert_ne!(domain.look(&layer(&base)).await.unwrap().unwrap().stamp, found.stamp);
    std::fs::remove_file(&base).unwrap();
    assert!(domain.look(&layer(&middle)).await.unwrap().is_some(), "what is below is not looked at");
    let gone = LayerFile { identity: None, ..layer(&middle) };
    assert!(domain.look(&LayerFile { file: format!("{}.no", gone.file), ..gone }).await.unwrap().is_none());
    let foreign = scratch.path("foreign");
    let file = foreign.to_str().unwrap();
    qemu_img(&["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "nbd://127.0.0.1:1/x", file, "1M"]);
    let found = domain.look(&layer(&foreign)).await.unwrap().unwrap();
    assert_eq!(found.base, Below::Foreign("nbd://127.0.0.1:1/x".into()));
    let room = domain.room(file).await.unwrap();
    assert!(room > 0);
    assert!(domain.room(scratch.path("not there").to_str().unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_merge_and_its_headers_keep_every_content() {
    let Tree { scratch: _scratch, base, middle, top, second, domain } = Tree::new();
    let told = Told::default();
    domain.merge(&merge(&middle, &base), &told).await.unwrap();
    let (done, total) = *told.0.lock().unwrap().last().unwrap();
    assert_eq!((Some(done), told.0.lock().unwrap()[0].0), (total, 0));
    // Again, and both give the same through the merged layer all the time.
    domain.merge(&merge(&middle, &base), &told).await.unwrap();
    assert!(holds(&base, 2) && holds(&top, 2) && holds(&top, 3) && holds(&second, 4));
    for child in [&top, &second] {
        assert_eq!(domain.unlink(&layer(child)).await.is_err(), child == &top, "the disk's own stays");
        if child.exists() {
            domain.reheader(&layer(child), &layer(&base)).await.unwrap();
            domain.reheader(&layer(child), &layer(&base)).await.unwrap();
            assert!(qemu_img(&["info", child.to_str().unwrap()]).contains("backing file: base ("));
        }
    }
    domain.unlink(&layer(&middle)).await.unwrap();
    let gone = LayerFile { identity: None, ..layer(&base) };
    domain.unlink(&LayerFile { file: middle.to_str().unwrap().into(), ..gone }).await.unwrap();
    assert!(
        !middle.exists() && holds(&top, 2) && holds(&top, 3) && holds_offline(&top, "qcow2", Data::of(1))
    );
    // What the snapshot inside the base holds has not changed.
    let (inside, alone) =
        (SnapshotId { name: "inside".into(), id: "1".into() }, images(vec![qcow2("vda", &base)]));
    xlsnap_orchestrator::Disks::revert(&alone, &name("vda"), &inside).await.unwrap();
    assert!(holds_offline(&base, "qcow2", Data::of(1)) && !holds(&base, 2));
}

#[tokio::test]
async fn below_a_layer_with_snapshots_is_merged_and_it_is_not() {
    let Tree { scratch: _scratch, base, middle, top, domain, .. } = Tree::new();
    let file = top.to_str().unwrap();
    qemu_img(&["snapshot", "-c", "pinned", file]);
    write_offline(&top, "qcow2", Data::of(9));
    let error = domain.merge(&merge(&top, &middle), &Told::default()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{}", chain(&error));
    domain.merge(&merge(&middle, &base), &Told::default()).await.unwrap();
    domain.reheader(&layer(&top), &layer(&base)).await.unwrap();
    domain.unlink(&layer(&middle)).await.unwrap();
    qemu_img(&["snapshot", "-a", "pinned", file]);
    assert!(holds_offline(&top, "qcow2", Data::of(1)) && holds(&top, 2) && holds(&top, 3));
}

#[tokio::test]
async fn what_is_done_already_is_not_done_again() {
    let Tree { scratch: _scratch, base, middle, domain, .. } = Tree::new();
    let merge = merge(&middle, &base);
    domain.park(&merge).await.unwrap();
    // The disk writes to the one below by now: what the other holds is old.
    let later = images(vec![qcow2("vda", &base)]);
    later.merge(&merge, &Told::default()).await.unwrap();
    assert!(!holds(&base, 2));
    std::fs::remove_file(&middle).unwrap();
    domain.merge(&merge, &Told::default()).await.unwrap();
    assert!(!holds(&base, 2));
}

#[tokio::test]
async fn a_merge_that_is_dropped_ends_half_way_and_is_done_later() {
    let scratch = Scratch::new();
    let base = scratch.qcow2_with("base", 512 * MIB, 1);
    let top = scratch.qcow2_on("top", &base);
    write_offline(&top, "qcow2", Data { byte: 2, offset: MIB, len: 400 * MIB });
    let (domain, merge) = (images(vec![qcow2("vda", &top)]), merge(&top, &base));
    let soon = std::time::Duration::from_millis(20);
    let dropped = tokio::time::timeout(soon, domain.merge(&merge, &Told::default())).await;
    domain.park(&merge).await.unwrap();
    let whole = Data { byte: 2, offset: MIB, len: 400 * MIB };
    assert!(dropped.is_err() && holds_offline(&top, "qcow2", whole));
    domain.merge(&merge, &Told::default()).await.unwrap();
    assert!(holds_offline(&base, "qcow2", whole) && holds_offline(&base, "qcow2", Data::of(1)));
}

#[tokio::test]
async fn another_file_of_the_name_is_left_alone() {
    let Tree { scratch, base, middle, top, domain, .. } = Tree::new();
    let merged = merge(&middle, &base);
    let planned = [layer(&middle), layer(&base)];
    for (at, file) in [&middle, &base].into_iter().enumerate() {
        let kept = scratch.path("kept");
        std::fs::rename(file, &kept).unwrap();
        std::fs::copy(&kept, file).unwrap();
        let before = std::fs::read(file).unwrap();
        for failed in [
            domain.merge(&merged, &Told::default()).await,
            domain.unlink(&planned[at]).await,
            domain.reheader(&layer(&top), &planned[at]).await,
        ] {
            let error = failed.unwrap_err();
            assert_eq!(
                (error.kind, error.effect),
                (PortErrorKind::Refused, Effect::None),
                "{}",
                chain(&error)
            );
        }
        assert_eq!(std::fs::read(file).unwrap(), before);
        std::fs::rename(&kept, file).unwrap();
    }
    // Not the one right below.
    let error = domain.merge(&merge(&top, &base), &Told::default()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{}", chain(&error));
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&middle, &link).unwrap();
    assert_eq!(domain.unlink(&layer(&link)).await.unwrap_err().kind, PortErrorKind::Refused);
    assert!(middle.exists());
}

#[tokio::test]
async fn what_a_process_has_open_is_left_alone() {
    let Tree { scratch, base, middle, top, second, domain } = Tree::new();
    let disk = xlsnap_testkit::real::Disk::qcow2("disk", &second);
    let daemon = StorageDaemon::start(&scratch, &[disk]);
    for failed in [
        domain.merge(&merge(&middle, &base), &Told::default()).await,
        domain.unlink(&layer(&middle)).await,
        domain.unlink(&layer(&second)).await,
        domain.reheader(&layer(&second), &layer(&base)).await,
    ] {
        let error = failed.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::None), "{}", chain(&error));
    }
    let error = domain.unlink(&layer(&middle)).await.unwrap_err();
    assert!(error.to_string().contains("(process "), "{error}");
    assert!(domain.look(&layer(&second)).await.unwrap().unwrap().in_use);
    // An idle branch above a base that the process has: its own header may be written.
    domain.reheader(&layer(&top), &layer(&middle)).await.unwrap();
    daemon.quit();
    // A file that is only read, without a lock.
    let mut reader = std::process::Command::new("sleep")
        .arg("60")
        .stdin(std::fs::File::open(&second).unwrap())
        .spawn()
        .unwrap();
    assert_eq!(domain.unlink(&layer(&second)).await.unwrap_err().kind, PortErrorKind::Busy);
    reader.kill().unwrap();
    reader.wait().unwrap();
    domain.unlink(&layer(&second)).await.unwrap();
    assert_eq!(domain.swap(&name("vda"), &layer(&top)).await.unwrap_err().kind, PortErrorKind::Refused);
}

#[tokio::test]
async fn several_go_in_order_up_to_the_first_that_stays() {
    let Tree { scratch, base, middle, top, second, domain } = Tree::new();
    let planned = [layer(&second), layer(&middle), layer(&base)];
    // Another file of the name stays, and does not keep the next.
    let kept = scratch.path("kept");
    std::fs::rename(&second, &kept).unwrap();
    std::fs::copy(&kept, &second).unwrap();
    let mut reader = std::process::Command::new("sleep")
        .arg("60")
        .stdin(std::fs::File::open(&middle).unwrap())
        .spawn()
        .unwrap();
    let done = domain.unlink_all(&planned).await;
    let kinds: Vec<_> = done.into_iter().map(|done| done.unwrap_err().kind).collect();
    assert_eq!(kinds, [PortErrorKind::Refused, PortErrorKind::Busy], "{base:?} was not tried");
    assert!(second.exists() && middle.exists() && base.exists());
    reader.kill().unwrap();
    reader.wait().unwrap();
    std::fs::rename(&kept, &second).unwrap();
    let done = domain.unlink_all(&planned).await;
    assert!(done.len() == 3 && done.iter().all(Result::is_ok), "{done:?}");
    assert!(!second.exists() && !middle.exists() && !base.exists());
    // Gone is unlinked; the disk's own stays.
    let own = [planned[0].clone(), layer(&top)];
    let done = domain.unlink_all(&own).await;
    assert!(
        done[0].is_ok() && done[1].as_ref().is_err_and(|error| error.kind == PortErrorKind::Busy),
        "{done:?}"
    );
    assert!(top.exists());
}
