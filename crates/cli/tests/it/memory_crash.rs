//! xlsnap, or QEMU, is killed in the middle of saving or restoring memory: after `recover` the domain is as before or as after,
//! and no guest that ran stands still.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use xlsnap_testkit::real::wait_until;

use crate::memory::{Counting, DEADLINE};

/// How many moments of each command are tried, and how far apart they are; it takes some 300 to 1500 ms.
const MOMENTS: u32 = 10;
const APART: Duration = Duration::from_millis(45);

fn begin(counting: &Counting, words: &[&str]) -> Child {
    counting.host.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The sleep waits for nothing: it chooses the moment.
fn kill_after(counting: &Counting, words: &[&str], after: Duration) {
    let mut child = begin(counting, words);
    sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    recover(counting);
}

fn recover(counting: &Counting) {
    wait_until("the domain is recovered", || {
        let ran = counting.host.run(["recover", "web"]);
        assert!(matches!(ran.code, 0 | 4 | 6), "{ran:?}");
        (ran.code == 0).then_some(())
    });
    let check = counting.host.run(["check", "web"]);
    assert_eq!(check.code, 0, "{check:?}");
    let records = counting.host.records("web");
    let left: Vec<_> = std::fs::read_dir(&records)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_create_that_is_killed_leaves_a_guest_that_runs() {
    let mut counting = Counting::new();
    for (mode, words) in [("b", "background"), ("w", "switchover"), ("s", "stop")] {
        for moment in 0..MOMENTS {
            let name = format!("{mode}{moment}");
            let before = counting.counts_on();
            let create = ["create", "web", &name, "--memory", "--memory-mode", words];
            kill_after(&counting, &create, APART * moment);
            assert_eq!(counting.state(), "running", "{name}");
            let after = counting.tick();
            counting.counts_on();
            let made = counting.host.names("web").contains(&name);
            assert_eq!(counting.memory_file(&name).exists(), made, "{name}");
            if made {
                counting.goes_back(&name, before..=after + 2);
                counting.host.run(["delete", "web", &name]).ok();
            }
        }
    }
}

#[test]
fn a_revert_that_is_killed_is_finished() {
    let mut counting = Counting::new();
    let before = counting.counts_on();
    counting.host.run(["create", "web", "s", "--memory"]).ok();
    let after = counting.tick();
    for moment in 0..MOMENTS {
        counting.counts_on();
        counting.console.forget();
        kill_after(&counting, &["revert", "web", "s"], APART * moment);
        // Not begun, or done.
        assert_eq!(counting.state(), "running");
        counting.counts_on();
        let back = counting.host.json(&["recover", "web"]);
        assert!(back["domains"][0]["recovered"].is_null(), "{back}");
    }
    counting.goes_back("s", before..=after + 2);
}

#[test]
fn a_revert_of_the_disks_of_a_running_guest_that_is_killed_is_finished() {
    let mut counting = Counting::new();
    counting.host.run(["create", "web", "s"]).ok();
    for moment in 0..MOMENTS {
        counting.console.forget();
        kill_after(&counting, &["revert", "web", "s"], APART * moment / 4);
        assert_eq!(counting.state(), "running");
        counting.console.wait_tick_beyond(2, DEADLINE);
        assert_eq!(counting.console.disagreement(), None);
    }
}

/// QEMU dies: the snapshot is not made, or was made before; nothing is left, and the domain starts again.
#[test]
fn a_qemu_that_dies_leaves_nothing_behind() {
    let mut counting = Counting::new();
    for moment in 0..MOMENTS {
        let name = format!("s{moment}");
        counting.counts_on();
        let pid = counting.host.json(&["domain", "status", "web"])["pid"].as_i64().unwrap();
        let mut create = begin(&counting, &["create", "web", &name, "--memory"]);
        sleep(APART / 2 * moment);
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
        create.wait().unwrap();
        recover(&counting);
        assert_eq!(counting.state(), "off");
        assert_eq!(counting.memory_file(&name).exists(), counting.host.names("web").contains(&name));
        counting.console.forget();
        counting.host.start();
        counting.console.wait_tick_beyond(2, DEADLINE);
    }
}

/// The first Ctrl-C ends it in order: the guest runs, nothing is left, and there is nothing to recover.
#[test]
fn an_interrupt_undoes_it() {
    let counting = Counting::new();
    for moment in 1..MOMENTS {
        let name = format!("s{moment}");
        let create = begin(&counting, &["create", "web", &name, "--memory", "--memory-mode", "switchover"]);
        sleep(APART / 2 * moment);
        let pid = Pid::from_raw(i32::try_from(create.id()).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::INT);
        let mut create = create;
        let status = create.wait().unwrap();
        assert_eq!(counting.state(), "running");
        let made = counting.host.names("web").contains(&name);
        match status.code() {
            Some(0) => assert!(made),
            Some(1) => {
                assert!(!made);
                let left = counting.host.json(&["recover", "web"]);
                assert!(left["domains"][0]["recovered"].is_null(), "{left}");
            }
            // Before the long step it ends at once, as any program.
            None => recover(&counting),
            code => panic!("{code:?}"),
        }
        counting.counts_on();
    }
}
