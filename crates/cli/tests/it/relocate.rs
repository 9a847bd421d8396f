//! Files of a domain that the user moved or renamed: `check` tells the line, and what names them follows.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};

use serde_json::Value;
use xlsnap_testkit::real::{Data, Disk, Vm, VmOptions, holds_offline, qemu_img, write_offline};

use crate::host::{Host, Ran};

const SIZE: u64 = 4 << 20;

pub(crate) fn image_of(host: &Host, disk: usize) -> PathBuf {
    let shown = host.json(&["domain", "show", "web"]);
    shown["domain"]["disks"][disk]["image"].as_str().unwrap().into()
}

/// The name in the header of an image.
fn header(image: &Path) -> String {
    let info = qemu_img(&["info", "-U", "--output=json", image.to_str().unwrap()]);
    let info: Value = serde_json::from_str(&info).unwrap();
    info["backing-filename"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn all_is_well(host: &Host) {
    let check = host.run(["check", "web"]);
    assert!(check.ok().out.contains("all is well"), "{}", check.out);
}

fn findings(host: &Host) -> Vec<(String, String)> {
    let check = host.json_of(7, &["check", "web"]);
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let found = check["domains"][0]["findings"].as_array().unwrap();
    found.iter().map(|finding| (text(finding, "code"), text(finding, "advice"))).collect()
}

fn relocate(host: &Host, old: &Path, new: &Path, more: &[&str]) -> Ran {
    let moved = format!("{}={}", old.display(), new.display());
    host.run(["check", "web", "--relocate", &moved].into_iter().chain(more.iter().copied()))
}

#[track_caller]
fn notes(ran: &Ran, what: &str) {
    assert!(ran.ok().out.contains(what), "{what:?} is not in {}", ran.out);
}

fn refuses(host: &Host, code: i32, old: &Path, new: &Path) -> Ran {
    let moved = format!("{}={}", old.display(), new.display());
    host.refuses(code, ["check", "web", "--relocate", &moved, "-n"]);
    host.refuses(code, ["check", "web", "--relocate", &moved])
}

/// `web` with the disk `vda` in `dir`, and the external snapshots `e1` and `e2`, which hold 1 and 2; the disk holds 3. The files that
/// the disk wrote to, in their order.
pub(crate) fn chain(dir: &str, more: &[&str]) -> (Host, [PathBuf; 3]) {
    let host = Host::new();
    fs::create_dir_all(host.scratch.path(dir)).unwrap();
    let first = host.scratch.qcow2_with(&format!("{dir}/a.qcow2"), SIZE, 1);
    host.add("web", std::slice::from_ref(&first), &[]);
    let mut files = vec![first];
    for (name, byte) in [("e1", 2), ("e2", 3)] {
        host.run(["create", "web", name, "--external", "vda"].into_iter().chain(more.iter().copied())).ok();
        files.push(image_of(&host, 0));
        write_offline(&image_of(&host, 0), "qcow2", Data::of(byte));
    }
    (host, files.try_into().unwrap())
}

/// Each snapshot is gone back to, and all go.
pub(crate) fn lives_on(host: &Host) {
    for (name, byte) in [("e1", 1), ("e2", 2), ("e1", 1)] {
        host.run(["revert", "web", name]).ok();
        assert!(holds_offline(&image_of(host, 0), "qcow2", Data::of(byte)), "{name}");
        all_is_well(host);
    }
    for name in ["e1", "e2"] {
        host.run(["delete", "web", name]).ok();
    }
    all_is_well(host);
    assert!(holds_offline(&image_of(host, 0), "qcow2", Data::of(1)));
}

#[test]
fn a_file_below_the_disks_image_is_followed_by_the_line_of_the_finding() {
    let (host, [first, second, top]) = chain("vm", &["--no-keep-name"]);
    let renamed = first.with_file_name("base of web.qcow2");
    fs::rename(&first, &renamed).unwrap();
    let found = findings(&host);
    assert_eq!(found.iter().map(|(code, _)| code.as_str()).collect::<Vec<_>>(), ["layer-missing"]);
    let line = format!("xlsnap check web --relocate {}=NEW", first.display());
    assert!(found[0].1.contains(&line), "{}", found[0].1);

    let before = host.state();
    let plan = relocate(&host, &first, &renamed, &["-n"]);
    for step in ["make ", "note in the record of snapshot e1", "note in the ledger"] {
        assert!(plan.ok().out.contains(step), "{}", plan.out);
    }
    assert!(
        plan.out.contains("qemu-img rebase") && plan.out.contains(second.to_str().unwrap()),
        "{}",
        plan.out
    );
    host.assert_state(&before);

    let moved = format!("{}={}", first.display(), renamed.display());
    let answer = host.json(&["check", "web", "--relocate", &moved]);
    assert_eq!(answer["files"][0]["from"], first.to_str().unwrap());
    assert_eq!(answer["files"][0]["to"], renamed.to_str().unwrap());
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 0, "{answer}");
    assert_eq!(header(&second), renamed.to_str().unwrap());
    assert!(holds_offline(&top, "qcow2", Data::of(3)));
    all_is_well(&host);
    refuses(&host, 3, &first, &renamed).tells("nothing of domain web names a file");
    lives_on(&host);
}

/// The disk's own image: until then nothing else can be done.
#[test]
fn the_image_of_a_disk_is_followed_by_the_domains_file() {
    for kept in ["--no-keep-name", "--keep-name"] {
        let (host, _) = chain("vm", &[kept]);
        let top = image_of(&host, 0);
        let renamed = host.scratch.path("web.img");
        fs::rename(&top, &renamed).unwrap();
        for words in [["check", "web"].as_slice(), &["create", "web", "e3"], &["revert", "web", "e1"]] {
            host.refuses(3, words).tells("xlsnap check web --relocate OLD=NEW");
        }
        let plan = relocate(&host, &top, &renamed, &["-n"]);
        assert!(plan.ok().out.contains("as the image of disk vda"), "{}", plan.out);
        relocate(&host, &top, &renamed, &[]).ok();
        assert_eq!(image_of(&host, 0), renamed);
        all_is_well(&host);
        assert!(holds_offline(&renamed, "qcow2", Data::of(3)));
        lives_on(&host);
    }
}

/// A domain without external snapshots: what is inside the image tells that it is the one.
#[test]
fn an_image_without_a_ledger_is_known_by_its_snapshots() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s1"]).ok();
    write_offline(&images[0], "qcow2", Data::of(7));
    let renamed = images[0].with_file_name("new.qcow2");
    fs::rename(&images[0], &renamed).unwrap();
    let other = host.scratch.qcow2_with("other.qcow2", SIZE, 1);
    refuses(&host, 5, &images[0], &other).tells("it does not hold snapshot s1");
    refuses(&host, 5, &images[0], &images[1]).tells("is a file of domain web already");
    let moved = relocate(&host, &images[0], &renamed, &[]);
    notes(&moved, "told by what it stands on and by the snapshots inside it alone");
    all_is_well(&host);
    host.run(["revert", "web", "s1"]).ok();
    assert!(holds_offline(&renamed, "qcow2", Data::of(1)));
    host.run(["delete", "web", "s1"]).ok();
}

/// All files at once, by their directory; names that were relative stay so.
#[test]
fn a_directory_is_followed_and_relative_names_stay_relative() {
    let host = Host::new();
    let [old, new] = ["old", "new/disks"].map(|dir| host.scratch.path(dir));
    fs::create_dir_all(&old).unwrap();
    fs::create_dir_all(new.parent().unwrap()).unwrap();
    host.scratch.qcow2_with("old/base.qcow2", SIZE, 1);
    let image = old.join("a.qcow2");
    let words = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", image.to_str().unwrap()];
    qemu_img(&words);
    host.add("web", std::slice::from_ref(&image), &[]);
    for (name, byte) in [("e1", 2), ("e2", 3)] {
        host.run(["create", "web", name, "--external", "vda", "--no-keep-name"]).ok();
        write_offline(&image_of(&host, 0), "qcow2", Data::of(byte));
    }
    let top = image_of(&host, 0);
    fs::rename(&old, &new).unwrap();
    refuses(&host, 5, &old, &host.scratch.path("nowhere")).tells("is not at");
    relocate(&host, &old, &new, &[]).ok();
    let now = |file: &Path| new.join(file.file_name().unwrap());
    assert_eq!(image_of(&host, 0), now(&top));
    assert_eq!(header(&now(&image)), "base.qcow2");
    assert!(header(&now(&top)).starts_with(new.to_str().unwrap()));
    assert!(holds_offline(&now(&top), "qcow2", Data::of(3)));
    all_is_well(&host);

    // The relative name alone has another way to go.
    let base = host.scratch.path("new/base.qcow2");
    fs::rename(new.join("base.qcow2"), &base).unwrap();
    relocate(&host, &new.join("base.qcow2"), &base, &[]).ok();
    assert_eq!(header(&now(&image)), "../base.qcow2");
    all_is_well(&host);
    // And by its way up.
    let base = {
        let away = host.scratch.path("new/b.qcow2");
        fs::rename(&base, &away).unwrap();
        relocate(&host, &base, &away, &[]).ok();
        away
    };
    assert_eq!(header(&now(&image)), "../b.qcow2");
    all_is_well(&host);
    // And from another place to what stayed.
    let image = now(&image);
    let away = host.scratch.path("a.qcow2");
    fs::rename(&image, &away).unwrap();
    relocate(&host, &image, &away, &[]).ok();
    assert_eq!(header(&away), "new/b.qcow2");
    assert!(base.exists());
    all_is_well(&host);
    lives_on(&host);
}

/// To another file system: the file is another one, and its times tell.
#[test]
fn a_copy_is_known_by_its_times() {
    let (host, [first, ..]) = chain("vm", &["--no-keep-name"]);
    let copy = host.scratch.path("copy.qcow2");
    let times = {
        let found = fs::metadata(&first).unwrap();
        FileTimes::new().set_modified(found.modified().unwrap())
    };
    fs::copy(&first, &copy).unwrap();
    refuses(&host, 5, &first, &copy).tells("is there still");
    fs::rename(&first, host.scratch.path("aside")).unwrap();
    refuses(&host, 5, &first, &copy).tells("cp -p").tells("--keep-base vda");
    File::options().write(true).open(&copy).unwrap().set_times(times).unwrap();
    let same = relocate(&host, &first, &copy, &[]);
    assert_eq!(same.ok().err, "", "{same:?}");
    all_is_well(&host);

    // Without its times it is taken where that is asked for.
    let again = host.scratch.path("again.qcow2");
    fs::copy(&copy, &again).unwrap();
    fs::remove_file(&copy).unwrap();
    notes(&relocate(&host, &copy, &again, &["--keep-base", "vda"]), "--keep-base vda");
    all_is_well(&host);
    lives_on(&host);
}

/// A copy of the file that the disk writes to has no stamp; what it stands on tells.
#[test]
fn a_copy_of_what_a_disk_writes_to_is_known_by_what_it_stands_on() {
    let (host, [first, second, top]) = chain("vm", &["--no-keep-name"]);
    let copy = host.scratch.path("copy.qcow2");
    fs::copy(&top, &copy).unwrap();
    fs::remove_file(&top).unwrap();
    for (base, name) in [(&first, "other.qcow2"), (&second, "none.qcow2")] {
        let other = host.scratch.path(name);
        let words = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base.to_str().unwrap()];
        qemu_img(&words.into_iter().chain([other.to_str().unwrap()]).collect::<Vec<_>>());
    }
    refuses(&host, 5, &top, &host.scratch.path("other.qcow2")).tells("it stands on");
    let whole = host.scratch.qcow2_with("whole.qcow2", SIZE, 9);
    refuses(&host, 5, &top, &whole).tells("it stands on nothing");
    notes(&relocate(&host, &top, &copy, &[]), "alone");
    fs::remove_file(host.scratch.path("none.qcow2")).unwrap();
    fs::remove_file(host.scratch.path("other.qcow2")).unwrap();
    all_is_well(&host);
    assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(3)));
    lives_on(&host);
}

/// What was written to meanwhile is not hidden by a new stamp.
#[test]
fn a_file_that_was_written_to_is_refused_by_name() {
    let (host, [first, second, _]) = chain("vm", &["--no-keep-name"]);
    let renamed = host.scratch.path("base.qcow2");
    fs::rename(&first, &renamed).unwrap();
    write_offline(&renamed, "qcow2", Data::of(8).at(1 << 20));
    refuses(&host, 5, &first, &renamed).tells("was written to since").tells("--keep-base vda");
    relocate(&host, &first, &renamed, &["--keep-base", "vda"]).ok();
    all_is_well(&host);
    // A layer whose header has to follow.
    let away = host.scratch.path("away.qcow2");
    fs::rename(&renamed, &away).unwrap();
    let now = std::time::SystemTime::now();
    File::options().write(true).open(&second).unwrap().set_times(FileTimes::new().set_modified(now)).unwrap();
    refuses(&host, 5, &renamed, &away).tells("is not what it was when it became read-only");
    relocate(&host, &renamed, &away, &["--keep-base", "vda"]).ok();
    all_is_well(&host);
    lives_on(&host);
}

/// A process knows its files by the names that they had.
#[test]
fn a_domain_that_is_on_keeps_its_files_where_they_are() {
    let host = Host::new();
    let image = host.scratch.qcow2_with("a.qcow2", SIZE, 1);
    let disks = [Disk::qcow2("vda", &image)];
    let vm = Vm::start(&host.scratch, &disks, &VmOptions { running: true, ..VmOptions::default() });
    let qmp = vm.qmp().to_str().unwrap().to_owned();
    host.add("web", std::slice::from_ref(&image), &["--qmp", &qmp]);
    for name in ["e1", "e2"] {
        host.run(["create", "web", name, "--external", "vda", "--no-keep-name"]).ok();
    }
    host.run(["revert", "web", "e1"]).ok();
    // The process has the branch that it left open still.
    let left = host.scratch.path("a.e2-1.qcow2");
    let moved = host.scratch.path("moved.qcow2");
    fs::rename(&left, &moved).unwrap();
    refuses(&host, 4, &left, &moved).tells("the domain's process, or another one, has");
    let renamed = host.scratch.path("base.qcow2");
    fs::rename(&image, &renamed).unwrap();
    refuses(&host, 4, &image, &renamed)
        .tells("is on, and its process has")
        .tells("shut domain web down first");
    vm.quit();
    relocate(&host, &left, &moved, &["--relocate", &format!("{}={}", image.display(), renamed.display())])
        .ok();
    all_is_well(&host);
    assert!(holds_offline(&image_of(&host, 0), "qcow2", Data::of(1)));
}

/// Another domain stands on the same file: it is told that it has to follow, too.
#[test]
fn a_base_of_two_domains_is_followed_by_each() {
    let host = Host::new();
    let golden = host.scratch.qcow2_with("golden.qcow2", SIZE, 1);
    for domain in ["web", "db"] {
        let image = host.scratch.path(&format!("{domain}.qcow2"));
        let words = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", golden.to_str().unwrap()];
        qemu_img(&words.into_iter().chain([image.to_str().unwrap()]).collect::<Vec<_>>());
        host.add(domain, std::slice::from_ref(&image), &[]);
        host.run(["create", domain, "e1", "--external", "vda"]).ok();
    }
    let renamed = host.scratch.path("silver.qcow2");
    fs::rename(&golden, &renamed).unwrap();
    notes(&relocate(&host, &golden, &renamed, &[]), "domain db");
    all_is_well(&host);
    let moved = format!("{}={}", golden.display(), renamed.display());
    host.run(["check", "db", "--relocate", &moved]).ok();
    let check = host.run(["check", "db"]);
    assert!(check.ok().out.contains("all is well"), "{}", check.out);
}
