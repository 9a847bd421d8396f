//! Files below a domain's images that are not its own: nothing is written to them, but to those that `--into-base` names.

use std::fs;
use std::path::{Path, PathBuf};

use xlsnap_testkit::real::{
    Data, Disk, LiveDisks, Vm, VmOptions, holds_offline, qemu_img, snapshots_in, write_offline,
};

use crate::host::Host;

const SIZE: u64 = 4 << 20;
/// Where the image above has no data, so that it is read from below.
const BELOW: u64 = 1 << 20;

/// An image on a base that somebody else made, which holds a snapshot.
fn on_a_base(host: &Host) -> [PathBuf; 2] {
    let base = host.scratch.qcow2_with("base.qcow2", SIZE, 7);
    qemu_img(&["snapshot", "-c", "theirs", base.to_str().unwrap()]);
    write_offline(&base, "qcow2", Data::of(1));
    write_offline(&base, "qcow2", Data::of(5).at(BELOW));
    let image = host.scratch.path("web.qcow2");
    overlay(&image, "base.qcow2");
    write_offline(&image, "qcow2", Data::of(2));
    [base, image]
}

pub(crate) fn overlay(image: &Path, base: &str) {
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, image.to_str().unwrap()]);
}

fn top(host: &Host, domain: &str) -> PathBuf {
    host.json(&["domain", "show", domain])["domain"]["disks"][0]["image"].as_str().unwrap().into()
}

#[track_caller]
fn assert_holds(image: &Path, here: u8, below: u8) {
    assert!(holds_offline(image, "qcow2", Data::of(here)), "{image:?} does not hold {here}");
    assert!(
        holds_offline(image, "qcow2", Data::of(below).at(BELOW)),
        "{image:?} does not hold {below} below"
    );
}

#[test]
fn a_base_that_is_named_takes_what_the_disk_has_written() {
    let host = Host::new();
    let [base, image] = on_a_base(&host);
    host.add("web", std::slice::from_ref(&image), &[]);
    let before = host.state();
    let name = base.to_str().unwrap();
    let planned = host.run(["flatten", "web", "--into-base", name, "--dry-run"]);
    host.assert_state(&before);
    assert!(planned.ok().out.contains(&format!("into {name}")), "{}", planned.out);
    assert!(planned.out.contains(&format!("remove {} (disk vda)", image.display())), "{}", planned.out);

    let done = host.json(&["flatten", "web", "--into-base", name]);
    let warnings = done["warnings"].to_string();
    assert!(warnings.contains(&format!("disk vda writes to {name} from then on")), "{warnings}");
    assert_eq!(top(&host, "web"), base);
    assert_holds(&base, 2, 5);
    assert_eq!(snapshots_in(&base), ["theirs"], "what somebody else keeps there stays");
    assert!(!image.exists());
    // The base is the disk's image now, and what it holds is the domain's to name.
    host.run(["check", "web", "--adopt", "theirs"]).ok();
    host.run(["check", "web"]).ok();
    // From then on it is the domain's own, and is written to without a word.
    host.run(["create", "web", "e1", "--external", "vda"]).ok();
    write_offline(&top(&host, "web"), "qcow2", Data::of(4));
    host.run(["delete", "web", "e1"]).ok();
    assert_eq!(top(&host, "web"), base);
    assert_holds(&base, 4, 5);
    host.run(["check", "web"]).ok();
}

/// A guest that runs goes on, and its disk is the base from then on.
#[test]
fn a_guest_that_runs_has_its_disk_merged_into_the_base() {
    let host = Host::new();
    let [base, image] = on_a_base(&host);
    let disks = [Disk::qcow2("vda", &image)];
    let vm = Vm::start(&host.scratch, &disks, &VmOptions { running: true, ..VmOptions::default() });
    let qmp = vm.qmp().to_str().unwrap().to_owned();
    host.add("web", std::slice::from_ref(&image), &["--qmp", &qmp]);
    host.run(["create", "web", "e1", "--external", "vda", "--no-keep-name"]).ok();
    vm.write("vda", Data::of(3));
    host.run(["delete", "web", "e1"]).ok();
    vm.write("vda", Data::of(4));
    host.run(["flatten", "web", "--into-base", base.to_str().unwrap()]).ok();
    assert_eq!(top(&host, "web"), base);
    vm.write("vda", Data::of(6).at(BELOW));
    vm.quit();
    assert_holds(&base, 4, 6);
    assert!(!image.exists());
}

#[test]
fn what_is_not_named_is_not_written_to() {
    let host = Host::new();
    let [base, image] = on_a_base(&host);
    let before = fs::read(&base).unwrap();
    host.add("web", std::slice::from_ref(&image), &[]);
    host.run(["create", "web", "e1", "--external", "vda"]).ok();
    let name = base.to_str().unwrap();
    // A snapshot's state is above it: nothing can go down.
    let nowhere = host.scratch.path("nowhere.qcow2");
    host.refuses(3, ["flatten", "web", "--into-base", nowhere.to_str().unwrap()]).tells(name);
    let others = host.scratch.path("db.qcow2");
    overlay(&others, "base.qcow2");
    host.add("db", std::slice::from_ref(&others), &[]);
    for words in [["delete", "web", "e1", "--into-base"], ["flatten", "web", "--disk=vda", "--into-base"]] {
        let mut words = words.to_vec();
        words.push(name);
        host.refuses(5, words).tells("domain db");
    }
    assert_eq!(host.names("web"), ["e1"]);
    host.run(["domain", "remove", "db", "--force"]).ok();
    host.refuses(5, ["delete", "web", "e1", "--into-base", name]).tells("db.qcow2 stands on it");
    fs::remove_file(&others).unwrap();
    host.run(["delete", "web", "e1"]).ok();
    host.run(["flatten", "web"]).ok();
    assert!(fs::read(&base).unwrap() == before, "the base was written to");
    assert_holds(&top(&host, "web"), 2, 5);
}

/// A snapshot of the domain's that is inside a file which is no longer its own.
#[test]
fn a_snapshot_inside_a_base_is_deleted_where_that_is_named() {
    let host = Host::new();
    let base = host.scratch.qcow2_with("base.qcow2", SIZE, 1);
    host.add("web", std::slice::from_ref(&base), &[]);
    host.run(["create", "web", "s1"]).ok();
    // The user goes on in an overlay that xlsnap knows nothing of.
    let image = host.scratch.path("web.qcow2");
    overlay(&image, "base.qcow2");
    let file = host.root().join("domains/web.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("base.qcow2", "web.qcow2")).unwrap();
    let line = format!("--no-merge --into-base {}", base.display());
    host.refuses(5, ["delete", "web", "s1"]).tells(&line);
    assert_eq!(snapshots_in(&base), ["s1"]);
    let name = base.to_str().unwrap();
    host.run(["delete", "web", "s1", "--no-merge", "--into-base", name]).ok();
    assert!(snapshots_in(&base).is_empty());
    assert!(host.names("web").is_empty());
    assert_eq!(top(&host, "web"), image);
    assert!(holds_offline(&image, "qcow2", Data::of(1)));
    // It is no more the domain's than before.
    host.run(["create", "web", "s2", "--external", "vda", "--no-keep-name"]).ok();
    host.run(["delete", "web", "s2"]).ok();
    assert_eq!(top(&host, "web"), image);
}

/// What would be left under another name, and get old.
#[test]
fn an_image_with_another_name_is_not_removed_with_what_it_holds() {
    let host = Host::new();
    let [base, image] = on_a_base(&host);
    fs::hard_link(&image, host.scratch.path("other.qcow2")).unwrap();
    host.add("web", std::slice::from_ref(&image), &[]);
    let name = base.to_str().unwrap();
    host.refuses(5, ["flatten", "web", "--into-base", name]).tells("2 names");
    fs::remove_file(host.scratch.path("other.qcow2")).unwrap();
    // Nor does it leave a file that stands on something itself.
    let middle = host.scratch.path("middle.qcow2");
    overlay(&middle, "base.qcow2");
    qemu_img(&["rebase", "-u", "-F", "qcow2", "-b", "middle.qcow2", image.to_str().unwrap()]);
    host.refuses(5, ["flatten", "web", "--into-base", middle.to_str().unwrap()]).tells("stands on");
    host.run(["check", "web"]).ok();
}
