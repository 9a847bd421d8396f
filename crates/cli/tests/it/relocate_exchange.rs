//! Files that exchanged their names: each is followed where the ledger proves which one it is, and refused by name elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xlsnap_testkit::real::{Data, holds_offline, qemu_img, write_offline};

use crate::host::{Host, Ran};
use crate::relocate::{all_is_well, image_of, lives_on};

const SIZE: u64 = 4 << 20;

/// `web` with the external snapshots `e1` and `e2`, which hold 1 and 2; the disk holds 3. The files that it wrote to, in their order.
fn chain(more: &[&str]) -> (Host, [PathBuf; 3]) {
    let host = Host::new();
    let first = host.scratch.qcow2_with("a.qcow2", SIZE, 1);
    host.add("web", std::slice::from_ref(&first), &[]);
    for (name, byte) in [("e1", 2), ("e2", 3)] {
        host.run(["create", "web", name, "--external", "vda"].into_iter().chain(more.iter().copied())).ok();
        write_offline(&image_of(&host, 0), "qcow2", Data::of(byte));
    }
    let top = image_of(&host, 0);
    let middle = base(&top);
    (host, [base(&middle), middle, top])
}

/// The file below an image.
fn base(image: &Path) -> PathBuf {
    let info = qemu_img(&["info", "-U", "--output=json", image.to_str().unwrap()]);
    let info: Value = serde_json::from_str(&info).unwrap();
    info["full-backing-filename"].as_str().unwrap().into()
}

/// Gives each file the name of the next one, and the last one that of the first.
fn rotate(host: &Host, ring: &[&Path]) -> Vec<String> {
    let aside = |at: usize| host.scratch.path(&format!("aside-{at}"));
    for (at, file) in ring.iter().enumerate() {
        fs::rename(file, aside(at)).unwrap();
    }
    let next = |at: usize| ring[(at + 1) % ring.len()];
    (0..ring.len()).for_each(|at| fs::rename(aside(at), next(at)).unwrap());
    ring.iter().enumerate().map(|(at, old)| format!("{}={}", old.display(), next(at).display())).collect()
}

fn words<'w>(pairs: &'w [String], more: &[&'w str]) -> Vec<&'w str> {
    let pairs = pairs.iter().flat_map(|pair| ["--relocate", pair]);
    ["check", "web"].into_iter().chain(pairs).chain(more.iter().copied()).collect()
}

fn refuses(host: &Host, pairs: &[String]) -> Ran {
    host.refuses(5, words(pairs, &["-n"]));
    host.refuses(5, words(pairs, &[]))
}

/// Two files of one chain, in every way in which one can stand on the other, and all three in a ring.
#[test]
fn files_of_one_chain_that_exchanged_their_names_are_followed() {
    for more in [["--no-keep-name"], ["--keep-name"]] {
        for ring in [[0, 1].as_slice(), &[0, 2], &[1, 2], &[0, 1, 2], &[2, 1, 0]] {
            let (host, files) = chain(&more);
            let before = host.state();
            let files: Vec<&Path> = ring.iter().map(|at| files[*at].as_path()).collect();
            let pairs = rotate(&host, &files);
            let moved = host.state();
            assert_ne!(before, moved);
            let plan = host.run(words(&pairs, &["-n"]));
            assert!(plan.ok().out.contains("note in the ledger"), "{}", plan.out);
            host.assert_state(&moved);
            // One alone is no move.
            host.refuses(5, words(&pairs[..1], &[])).tells("is there still");
            let ran = host.run(words(&pairs, &[]));
            assert_eq!(ran.ok().err, "", "{more:?} {ring:?}: {ran:?}");
            all_is_well(&host);
            assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(3)), "{more:?} {ring:?}");
            // It is done.
            host.refuses(3, words(&pairs, &[])).tells("is there still");
            lives_on(&host);
        }
    }
}

/// What both disks write to; and directories with files of the same names.
#[test]
fn images_of_two_disks_that_exchanged_their_names_are_followed() {
    let host = Host::new();
    for (dir, byte) in [("one", 1), ("two", 2)] {
        fs::create_dir_all(host.scratch.path(dir)).unwrap();
        host.scratch.qcow2_with(&format!("{dir}/disk.qcow2"), SIZE, byte);
    }
    let images = ["one", "two"].map(|dir| host.scratch.path(&format!("{dir}/disk.qcow2")));
    host.add("web", &images, &[]);
    host.run(["create", "web", "e1", "--external", "vda,vdb", "--no-keep-name"]).ok();
    let tops = [0, 1].map(|at| image_of(&host, at));
    for (image, byte) in tops.iter().zip([3, 4]) {
        write_offline(image, "qcow2", Data::of(byte));
    }
    let read = |bytes: [u8; 2]| {
        for (at, byte) in bytes.into_iter().enumerate() {
            assert!(holds_offline(&image_of(&host, at), "qcow2", Data::of(byte)), "disk {at}");
        }
        all_is_well(&host);
    };
    let pairs = rotate(&host, &[tops[0].as_path(), tops[1].as_path()]);
    host.run(words(&pairs, &[])).ok();
    assert_eq!([0, 1].map(|at| image_of(&host, at)), [tops[1].clone(), tops[0].clone()]);
    read([3, 4]);
    let dirs = ["one", "two"].map(|dir| host.scratch.path(dir));
    let pairs = rotate(&host, &[dirs[0].as_path(), dirs[1].as_path()]);
    host.run(words(&pairs, &[])).ok();
    assert_eq!([0, 1].map(|at| image_of(&host, at)), [tops[0].clone(), tops[1].clone()]);
    read([3, 4]);
    host.run(["revert", "web", "e1"]).ok();
    read([1, 2]);
}

/// Where nothing proves which is which, both stay.
#[test]
fn an_exchange_that_nothing_proves_is_refused_by_name() {
    // No external snapshot, and so no ledger.
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    let pairs = rotate(&host, &[images[0].as_path(), images[1].as_path()]);
    refuses(&host, &pairs).tells("nothing proves that").tells("the ledger does not have it");
    // A copy of what the disk writes to.
    let (host, [first, _, top]) = chain(&["--no-keep-name"]);
    let pairs = rotate(&host, &[first.as_path(), top.as_path()]);
    let aside = host.scratch.path("aside");
    fs::rename(&first, &aside).unwrap();
    fs::copy(&aside, &first).unwrap();
    fs::remove_file(&aside).unwrap();
    refuses(&host, &pairs).tells("nothing proves that").tells("a name that none of them had");
    // So it goes.
    let names = ["x.qcow2", "y.qcow2"].map(|name| host.scratch.path(name));
    fs::rename(&top, &names[0]).unwrap();
    fs::rename(&first, &names[1]).unwrap();
    let pairs = [(&first, &names[0]), (&top, &names[1])];
    let pairs = pairs.map(|(old, new)| format!("{}={}", old.display(), new.display()));
    host.run(words(&pairs, &[])).ok();
    all_is_well(&host);
    lives_on(&host);
}
