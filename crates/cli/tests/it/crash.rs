//! The process is killed at any time, and the next one brings its work to an end.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use xlsnap_testkit::real::{Data, holds_offline, snapshots_in, wait_until, write_offline};

use crate::host::Host;
use crate::kills::{Call, Moments, Whole};

/// How many moments of each command are tried, unless a campaign says otherwise.
const MOMENTS: u32 = 16;

/// Kills the command before a call, and brings the domain to rest again.
fn kill_and_recover(host: &Host, words: &[&str], call: &Call) {
    call.kill(host, words);
    // A qemu-img that was writing goes on to its end, and until then the image is busy.
    wait_until("the domain is recovered", || {
        let ran = host.run(["recover", "web"]);
        assert!(matches!(ran.code, 0 | 4 | 6), "{ran:?}");
        (ran.code == 0).then_some(())
    });
}

/// Checks that the records and every image tell the same snapshots.
fn assert_agreed(host: &Host, images: &[std::path::PathBuf]) {
    let records: BTreeSet<String> = host.names("web").into_iter().collect();
    for image in images {
        assert_eq!(snapshots_in(image).into_iter().collect::<BTreeSet<_>>(), records);
    }
    let check = host.run(["check", "web", "--json"]);
    let report: Value = serde_json::from_str(&check.out).unwrap();
    assert_eq!(check.code, 0, "{report}");
}

#[test]
fn a_create_that_is_killed_is_there_wholly_or_not_at_all() {
    let (host, images) = Host::with_two_disks();
    let whole = Whole::of(&host, &["create", "web", "whole"]);
    let moments = Moments::new(MOMENTS);
    for moment in 1..=moments.count {
        let name = format!("s{moment}");
        kill_and_recover(&host, &["create", "web", &name], &moments.call(&whole, moment));
        assert_agreed(&host, &images);
        if host.names("web").contains(&name) {
            host.run(["delete", "web", &name]).ok();
        }
    }
}

#[test]
fn a_delete_that_is_killed_is_done_wholly_or_not_at_all() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "whole"]).ok();
    let whole = Whole::of(&host, &["delete", "web", "whole"]);
    let moments = Moments::new(MOMENTS);
    for moment in 1..=moments.count {
        let name = format!("s{moment}");
        host.run(["create", "web", &name]).ok();
        kill_and_recover(&host, &["delete", "web", &name], &moments.call(&whole, moment));
        assert_agreed(&host, &images);
        host.run(["delete", "web", &name]);
    }
}

#[test]
fn a_revert_that_is_killed_leaves_all_disks_at_one_time() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s"]).ok();
    let whole = Whole::of(&host, &["revert", "web", "s"]);
    let moments = Moments::new(MOMENTS);
    for moment in 1..=moments.count {
        let call = moments.call(&whole, moment);
        let now = u8::try_from(100 + moment % 100).unwrap();
        for image in &images {
            write_offline(image, "qcow2", Data::of(now));
        }
        kill_and_recover(&host, &["revert", "web", "s"], &call);
        assert_agreed(&host, &images);
        let holds = |bytes: [u8; 2]| {
            images.iter().zip(bytes).all(|(image, byte)| holds_offline(image, "qcow2", Data::of(byte)))
        };
        // The disks of this host hold 1 and 2.
        assert!(holds([1, 2]) || holds([now, now]), "{call:?}: the disks are of two times");
    }
}

/// A file that was moved: what names it follows, wherever that was cut short.
#[test]
fn a_relocation_that_is_killed_is_finished_or_done_again() {
    let (host, images) = Host::with_two_disks();
    host.run(["create", "web", "s", "--external", "vda", "--no-keep-name"]).ok();
    let top =
        host.json(&["domain", "show", "web"])["domain"]["disks"][0]["image"].as_str().unwrap().to_owned();
    let names = [images[0].clone(), images[0].with_file_name("moved.qcow2")];
    let moved = |at: usize| {
        let (old, new) = (&names[at % 2], &names[(at + 1) % 2]);
        fs::rename(old, new).unwrap();
        format!("{}={}", old.display(), new.display())
    };
    let whole = Whole::of(&host, &["check", "web", "--relocate", &moved(0)]);
    let moments = Moments::new(MOMENTS);
    let mut finished = 0;
    for moment in 1..=moments.count {
        let pair = moved(moment as usize);
        kill_and_recover(&host, &["check", "web", "--relocate", &pair], &moments.call(&whole, moment));
        match host.run(["check", "web"]).code {
            0 => finished += 1,
            7 => drop(host.run(["check", "web", "--relocate", &pair]).ok()),
            code => panic!("{code}"),
        }
        host.run(["check", "web"]).ok();
        assert!(holds_offline(Path::new(&top), "qcow2", Data::of(1)), "moment {moment}");
    }
    assert!(finished > 0, "no recovery finished it");
}

/// Two disks whose images exchanged their names: no moment leaves a header, a record or the description with one of both.
#[test]
fn an_exchange_of_names_that_is_killed_is_finished_or_done_again() {
    let (host, _) = Host::with_two_disks();
    host.run(["create", "web", "s", "--external", "vda,vdb", "--no-keep-name"]).ok();
    let disks = || {
        let shown = host.json(&["domain", "show", "web"]);
        [0, 1].map(|at| shown["domain"]["disks"][at]["image"].as_str().unwrap().to_owned())
    };
    let names = disks();
    let exchange = || {
        let aside = host.scratch.path("aside");
        fs::rename(&names[0], &aside).unwrap();
        fs::rename(&names[1], &names[0]).unwrap();
        fs::rename(&aside, &names[1]).unwrap();
    };
    let [there, back] =
        [[0, 1], [1, 0]].map(|[old, new]: [usize; 2]| format!("{}={}", names[old], names[new]));
    let words = ["check", "web", "--relocate", &there, "--relocate", &back];
    exchange();
    let whole = Whole::of(&host, &words);
    let moments = Moments::new(MOMENTS);
    let mut finished = 0;
    for moment in 1..=moments.count {
        let before = disks();
        exchange();
        kill_and_recover(&host, &words, &moments.call(&whole, moment));
        match host.run(["check", "web"]).code {
            0 => finished += 1,
            7 => drop(host.run(words).ok()),
            code => panic!("{code}"),
        }
        host.run(["check", "web"]).ok();
        let now = disks();
        assert_eq!([&now[0], &now[1]], [&before[1], &before[0]], "moment {moment}");
        for (image, byte) in now.iter().zip([1, 2]) {
            assert!(holds_offline(Path::new(image), "qcow2", Data::of(byte)), "moment {moment}: {image}");
        }
    }
    assert!(finished > 0, "no recovery finished it");
}

#[test]
fn a_qemu_img_that_outlives_its_caller_keeps_the_domain_locked() {
    let (host, images) = Host::with_two_disks();
    // One that has started and not yet opened the image when its caller is killed.
    let (slow, gate, begun) =
        (host.scratch.path("slow"), host.scratch.path("gate"), host.scratch.path("begun"));
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = snapshot ]; then\n: > '{}'\nwhile [ -e '{}' ]; do sleep 0.01; done\nfi\nexec qemu-img \"$@\"\n",
        begun.display(),
        gate.display()
    );
    fs::write(&slow, script).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&gate, "").unwrap();

    let mut create =
        host.command(["create", "web", "one", "--qemu-img", slow.to_str().unwrap()]).spawn().unwrap();
    wait_until("qemu-img has started", || begun.exists().then_some(()));
    create.kill().unwrap();
    create.wait().unwrap();
    let early = host.run(["recover", "web", "--wait", "0"]);
    fs::remove_file(&gate).unwrap();
    assert_eq!(early.code, 4, "it undoes what is still being done: {early:?}");

    host.run(["recover", "web"]).ok();
    assert_agreed(&host, &images);
}
