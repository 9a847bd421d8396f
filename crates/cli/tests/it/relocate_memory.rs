//! Memory files that the user moved or renamed: the records follow, and the guest goes on from there.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::host::{Host, Ran};
use crate::layers_crash::Web;

/// `web`, which is on, with the snapshot `a`, whose memory is in a file of this name and whose disks hold 1; they hold 2 now.
fn saved(file: &str) -> (Web, PathBuf) {
    let mut web = Web::on(Host::new(), 1 << 20);
    let file = web.host.scratch.path(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    web.host.start();
    web.write(1);
    web.host.run(["create", "web", "a", &format!("--memory={}", file.display())]).ok();
    web.write(2);
    (web, file)
}

/// The memory file in both parts of a record.
fn recorded(host: &Host, name: &str) -> [Value; 2] {
    let records = host.records("web");
    let read = |file: String| -> Value {
        let text = fs::read_to_string(records.join(file)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let (record, meta) =
        (read(format!("snapshotdata-{name}.libxl-json")), read(format!("snapshotmeta-{name}.json")));
    [record["memory"].clone(), meta["memory"]["file"].clone()]
}

fn pair(old: &Path, new: &Path) -> String {
    format!("{}={}", old.display(), new.display())
}

fn relocate(host: &Host, pair: &str) -> Ran {
    host.run(["check", "web", "--relocate", pair])
}

fn is_well_at(host: &Host, name: &str, file: &Path) {
    assert_eq!(recorded(host, name), [file.to_str().unwrap(), file.to_str().unwrap()]);
    let check = host.run(["check", "web", "--deep"]);
    assert!(check.ok().out.contains("all is well"), "{}", check.out);
}

#[test]
fn a_memory_file_is_followed_by_the_line_of_the_finding() {
    let (web, old) = saved("saves/a.save");
    let host = &web.host;
    let new = host.scratch.path("elsewhere/memory of a");
    fs::create_dir_all(new.parent().unwrap()).unwrap();
    host.refuses(5, ["check", "web", "--relocate", &pair(&old, &new)]).tells("is there still");
    fs::rename(&old, &new).unwrap();
    let found = host.json_of(7, &["check", "web"]);
    let finding = &found["domains"][0]["findings"][0];
    assert_eq!(finding["code"], "memory-missing");
    let line = format!("xlsnap check web --relocate {}=NEW", old.display());
    assert!(finding["advice"].as_str().unwrap().contains(&line), "{finding}");
    host.run(["revert", "web", "a"]).tells("--relocate");

    let plan = host.run(["check", "web", "--relocate", &pair(&old, &new), "-n"]);
    let step = format!("note in the record of snapshot a that its memory file is {}", new.display());
    assert!(plan.ok().out.contains(&step), "{}", plan.out);
    assert_eq!(recorded(host, "a")[0], old.to_str().unwrap());
    let answer = host.json(&["check", "web", "--relocate", &pair(&old, &new)]);
    assert_eq!(answer["files"].as_array().unwrap().len(), 0, "{answer}");
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 0, "{answer}");
    let moved = &answer["memory"][0];
    assert_eq!(moved["snapshot"], "a");
    assert_eq!(moved["from"], old.to_str().unwrap());
    assert_eq!(moved["to"], new.to_str().unwrap());
    is_well_at(host, "a", &new);
    host.refuses(3, ["check", "web", "--relocate", &pair(&old, &new)]).tells("nothing of domain web names");

    host.run(["revert", "web", "a"]).ok();
    host.run(["delete", "web", "a"]).ok();
    assert!(!new.exists());
}

/// With the images, by their directory, of a domain that is off.
#[test]
fn a_directory_with_a_memory_file_is_followed_as_a_whole() {
    let (web, old) = saved("vm/a.save");
    let host = &web.host;
    host.stop(&["--powerdown", "0"]);
    let image = host.scratch.path("vda.qcow2");
    let aside = host.scratch.path("vm/vda.qcow2");
    fs::rename(&image, &aside).unwrap();
    relocate(host, &pair(&image, &aside)).ok();
    let [from, to] = ["vm", "moved"].map(|name| host.scratch.path(name));
    fs::rename(&from, &to).unwrap();
    let answer = host.json(&["check", "web", "--relocate", &pair(&from, &to)]);
    assert_eq!(answer["files"][0]["to"], to.join("vda.qcow2").to_str().unwrap());
    assert_eq!(answer["memory"][0]["to"], to.join("a.save").to_str().unwrap());
    assert!(!old.exists());
    is_well_at(host, "a", &to.join("a.save"));
    host.run(["revert", "web", "a"]).ok();
}

/// A copy has no mark: it is read as a whole. What is not that file is refused.
#[test]
fn a_copy_is_known_by_its_checksum() {
    let (web, old) = saved("a.save");
    let host = &web.host;
    host.run(["create", "web", "b", "--memory"]).ok();
    let good = fs::read(&old).unwrap();
    let new = host.scratch.path("b");
    fs::remove_file(&old).unwrap();
    let given = pair(&old, &new);
    let is_other = format!("{} is not {} (the memory of snapshot a", new.display(), old.display());
    let middle = good.len() / 2;
    let mut changed = good.clone();
    changed[middle] ^= 1;
    for wrong in [b"no memory".as_slice(), &good[..middle], &changed] {
        fs::write(&new, wrong).unwrap();
        host.refuses(5, ["check", "web", "--relocate", &given]).tells(&is_other);
    }
    fs::remove_file(&new).unwrap();
    std::os::unix::fs::symlink(host.records("web").join("b.save"), &new).unwrap();
    host.refuses(5, ["check", "web", "--relocate", &given]).tells("symbolic link");
    fs::remove_file(&new).unwrap();
    fs::write(&new, &good).unwrap();
    assert_eq!(relocate(host, &given).ok().err, "");
    is_well_at(host, "a", &new);
    host.run(["revert", "web", "a"]).ok();
}

/// Each is known by its mark, or by what it holds.
#[test]
fn memory_files_that_exchanged_their_names_are_followed() {
    let (mut web, a) = saved("a.save");
    let b = web.host.scratch.path("b.save");
    web.host.run(["create", "web", "b", &format!("--memory={}", b.display())]).ok();
    web.write(3);
    let host = &web.host;
    let aside = host.scratch.path("aside");
    let [there, back] = [(&a, &b), (&b, &a)].map(|(old, new)| pair(old, new));
    let words = ["check", "web", "--relocate", &there, "--relocate", &back];
    host.refuses(3, words).tells("is there still");
    fs::rename(&a, &aside).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::copy(&aside, &b).unwrap();
    fs::remove_file(&aside).unwrap();
    host.refuses(5, ["check", "web", "--relocate", &there]).tells("is there still");
    host.run(words).ok();
    is_well_at(host, "a", &b);
    is_well_at(host, "b", &a);
    host.refuses(3, words).tells("is there still");
    for name in ["a", "b"] {
        host.run(["revert", "web", name]).ok();
    }
}
