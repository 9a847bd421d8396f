//! xlsnap, or QEMU, is killed in the middle of saving or restoring memory: after `recover` the domain is as before or as after,
//! and no guest that ran stands still.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use xlsnap_testkit::real::wait_until;

use crate::kills::{Call, Moments, Whole, kill_after, tell_hit};
use crate::memory::{Counting, DEADLINE};

/// How many moments of each command are tried, unless a campaign says otherwise.
const MOMENTS: u32 = 10;

/// Runs a command to its end, and gives the moments of it that are tried: how long after its start.
fn moments(counting: &Counting, words: &[&str], count: u32) -> Vec<Duration> {
    let (whole, moments) = (Whole::of(&counting.host, words), Moments::new(count));
    (1..=moments.count).map(|moment| moments.after(&whole, moment)).collect()
}

/// The same, and as many calls of it, in turn.
fn kills(counting: &Counting, words: &[&str], count: u32) -> Vec<Moment> {
    let (whole, moments) = (Whole::of(&counting.host, words), Moments::new(count));
    let one = |moment| match moment % 2 {
        1 => Moment::After(moments.after(&whole, moment)),
        _ => Moment::Before(moments.call(&whole, moment)),
    };
    (1..=moments.count).map(one).collect()
}

/// When a command is killed.
enum Moment {
    /// So long after its start.
    After(Duration),
    Before(Call),
}

fn begin(counting: &Counting, words: &[&str]) -> Child {
    counting.host.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(counting: &Counting, words: &[&str], moment: &Moment) -> bool {
    match moment {
        Moment::After(after) => kill_after(&counting.host, words, *after),
        Moment::Before(call) => call.kill(&counting.host, words),
    }
    recover(counting)
}

/// Recovers, checks, and tells whether there was something to recover.
fn recover(counting: &Counting) -> bool {
    let ran = wait_until("the domain is recovered", || {
        let ran = counting.host.run(["recover", "web"]);
        assert!(matches!(ran.code, 0 | 4 | 6), "{ran:?}");
        (ran.code == 0).then_some(ran)
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
    !ran.out.contains("nothing to recover")
}

/// Whether this QEMU saves memory so; every one saves it of a guest that is stopped.
fn is_offered(counting: &Counting, mode: &str) -> bool {
    let ran = counting.host.run(["create", "web", "planned", "-n", "--memory", "--memory-mode", mode]);
    assert!(ran.code == 0 || (mode != "stop" && ran.err.contains("cannot be saved")), "{ran:?}");
    ran.code == 0
}

/// How often a sweep is tried: on a busy machine the run that is measured and those that are killed can take very different times.
const ROUNDS: u32 = 4;

/// Tries the moments of a command, each by `one`, which tells whether it met the operation in the middle.
fn sweep(
    counting: &mut Counting,
    words: &[&str],
    count: u32,
    mut one: impl FnMut(&mut Counting, &Moment) -> bool,
) {
    let mut met = 0;
    for _ in 0..ROUNDS {
        for moment in kills(counting, words, count) {
            met += u32::from(one(counting, &moment));
        }
        if met >= 2 {
            break;
        }
    }
    assert_met(met);
}

/// A sweep that never met an operation in the middle has shown nothing.
fn assert_met(met: u32) {
    assert!(met >= 2, "only {met} of the moments fell into the operation");
}

#[test]
fn a_create_that_is_killed_leaves_a_guest_that_runs() {
    let mut counting = Counting::new();
    for (mode, words) in [("b", "background"), ("w", "switchover"), ("s", "stop")] {
        if !is_offered(&counting, words) {
            continue;
        }
        let mut met = 0;
        let clean = ["create", "web", mode, "--memory", "--memory-mode", words];
        for (at, moment) in kills(&counting, &clean, MOMENTS).iter().enumerate() {
            let name = format!("{mode}{at}");
            let before = counting.counts_on();
            let create = ["create", "web", &name, "--memory", "--memory-mode", words];
            met += u32::from(kill(&counting, &create, moment));
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
        assert_met(met);
    }
}

/// Kills a revert and recovers: it was not begun, or is done, or undone, and the guest counts on in each case.
fn goes_on_after(counting: &mut Counting, revert: &[&str], moment: &Moment) -> bool {
    counting.counts_on();
    counting.console.forget();
    let met = kill(counting, revert, moment);
    assert_eq!(counting.state(), "running");
    counting.counts_on();
    met
}

#[test]
fn a_revert_that_is_killed_is_finished() {
    let mut counting = Counting::new();
    let before = counting.counts_on();
    counting.host.run(["create", "web", "s", "--memory"]).ok();
    let after = counting.tick();
    let revert = ["revert", "web", "s"];
    sweep(&mut counting, &revert, MOMENTS, |counting, moment| {
        let met = goes_on_after(counting, &revert, moment);
        let back = counting.host.json(&["recover", "web"]);
        assert!(back["domains"][0]["recovered"].is_null(), "{back}");
        met
    });
    counting.goes_back("s", before..=after + 2);
}

/// The image that holds the memory is one that the disk has left: a copy of it is made, and none is left over.
#[test]
fn a_revert_from_inside_a_left_image_that_is_killed_leaves_no_copy() {
    let mut counting = Counting::new();
    let before = counting.counts_on();
    counting.host.run(["create", "web", "s", "--memory=internal"]).ok();
    let after = counting.tick();
    counting.host.run(["create", "web", "e", "--external", "vda", "--no-keep-name"]).ok();
    let revert = ["revert", "web", "s"];
    sweep(&mut counting, &revert, MOMENTS, |counting, moment| {
        let met = goes_on_after(counting, &revert, moment);
        let made = counting.host.files().into_iter().filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("vda.") && name != "vda.qcow2"
        });
        // What it left, and what it writes to now.
        assert!(made.count() <= 2, "{:?}", counting.host.files());
        met
    });
    counting.goes_back("s", before..=after + 2);
}

#[test]
fn a_revert_of_the_disks_of_a_running_guest_that_is_killed_is_finished() {
    let mut counting = Counting::new();
    counting.host.run(["create", "web", "s"]).ok();
    let revert = ["revert", "web", "s"];
    sweep(&mut counting, &revert, 3 * MOMENTS, |counting, moment| {
        counting.console.forget();
        let met = kill(counting, &revert, moment);
        assert_eq!(counting.state(), "running");
        counting.console.wait_tick_beyond(2, DEADLINE);
        assert_eq!(counting.console.disagreement(), None);
        met
    });
}

/// QEMU dies: the snapshot is not made, or was made before; nothing is left, and the domain starts again.
#[test]
fn a_qemu_that_dies_leaves_nothing_behind() {
    let mut counting = Counting::new();
    let mut failed = 0;
    for (at, moment) in
        moments(&counting, &["create", "web", "clean", "--memory"], MOMENTS).into_iter().enumerate()
    {
        let name = format!("s{at}");
        counting.counts_on();
        let pid = counting.host.json(&["domain", "status", "web"])["pid"].as_i64().unwrap();
        let mut create = begin(&counting, &["create", "web", &name, "--memory"]);
        sleep(moment);
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
        if !create.wait().unwrap().success() {
            tell_hit(format_args!("QEMU is killed {:.3} s after the begin of create", moment.as_secs_f64()));
            failed += 1;
        }
        recover(&counting);
        assert_eq!(counting.state(), "off");
        assert_eq!(counting.memory_file(&name).exists(), counting.host.names("web").contains(&name));
        counting.console.forget();
        counting.host.start();
        counting.console.wait_tick_beyond(2, DEADLINE);
    }
    assert_met(failed);
}

/// The first Ctrl-C ends it in order: the guest runs, nothing is left, and there is nothing to recover.
#[test]
fn an_interrupt_undoes_it() {
    let counting = Counting::new();
    let mut undone = 0;
    let mode = if is_offered(&counting, "switchover") { "switchover" } else { "stop" };
    let clean = ["create", "web", "clean", "--memory", "--memory-mode", mode];
    for (at, moment) in moments(&counting, &clean, MOMENTS).into_iter().enumerate() {
        let name = format!("s{at}");
        let create = begin(&counting, &["create", "web", &name, "--memory", "--memory-mode", mode]);
        sleep(moment);
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
                undone += 1;
                let left = counting.host.json(&["recover", "web"]);
                assert!(left["domains"][0]["recovered"].is_null(), "{left}");
            }
            // Before the long step it ends at once, as any program.
            None => drop(recover(&counting)),
            code => panic!("{code:?}"),
        }
        counting.counts_on();
    }
    assert_met(undone);
}
