//! Kills of a command in the middle of what it does: after a while, or before a system call.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::host::Host;

/// The kills of a command: so many, evenly spread over it, each moved a little by the seed. `XLSNAP_MOMENTS` and `XLSNAP_SEED` say
/// otherwise (`cargo xtask campaign`).
pub(crate) struct Moments {
    pub(crate) count: u32,
    pub(crate) seed: u64,
}

impl Moments {
    /// So many, unless the environment says otherwise.
    pub(crate) fn new(count: u32) -> Self {
        let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let count = given("XLSNAP_MOMENTS").and_then(|count| u32::try_from(count).ok()).unwrap_or(count);
        Self { count: count.max(3), seed: given("XLSNAP_SEED").unwrap_or(0) }
    }

    /// Which part of a command comes before a moment.
    fn part(&self, moment: u32) -> f64 {
        let word = mixed(self.seed, u64::from(moment));
        let moved = if self.seed == 0 { 0.0 } else { (word >> 40) as f64 / (1u64 << 24) as f64 - 0.5 };
        (f64::from(moment) + moved) / f64::from(self.count + 1)
    }

    /// What is drawn for a moment: other words for other moments and seeds.
    pub(crate) fn draws(&self, moment: u32) -> Draws {
        Draws(mixed(self.seed, u64::from(moment)))
    }

    /// How long after its start a command is killed at a moment.
    pub(crate) fn after(&self, whole: &Whole, moment: u32) -> Duration {
        whole.took.mul_f64(self.part(moment))
    }

    /// The call before which a command is killed at a moment.
    pub(crate) fn call(&self, whole: &Whole, moment: u32) -> Call {
        whole.calls[(whole.calls.len() as f64 * self.part(moment)) as usize].clone()
    }

    /// How a command is killed at a moment: every second time QEMU is killed too, after a while; else xlsnap is, before a system call.
    pub(crate) fn kill(&self, whole: &Whole, moment: u32) -> Kill {
        match moment % 2 {
            1 => Kill::WithQemu(self.after(whole, moment)),
            _ => Kill::Before(self.call(whole, moment)),
        }
    }

    /// Tells how many of the kills fell into the operation; a few have to.
    pub(crate) fn assert_met(&self, what: &str, met: u32) {
        println!("{what}: {met} of {} kills fell into the operation", self.count);
        assert!(met >= 2, "{what}: only {met} kills fell into the operation");
    }
}

/// Numbers that look like chance, and are the same again.
#[derive(Clone, Copy)]
pub(crate) struct Draws(u64);

impl Draws {
    /// The one of this number.
    pub(crate) fn number(self, number: usize) -> u64 {
        mixed(self.0, number as u64)
    }

    /// One of so many.
    pub(crate) fn one_of(self, number: usize, count: usize) -> usize {
        (self.number(number) % count as u64) as usize
    }
}

fn mixed(seed: u64, number: u64) -> u64 {
    // SplitMix64, of Steele, Lea and Flood.
    let mut word = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// How a command is killed.
#[derive(Debug)]
pub(crate) enum Kill {
    /// So long after its start, and QEMU right after it.
    WithQemu(Duration),
    /// When its first thread, which does all but to look at directories, makes this call, before the kernel does what it asks.
    Before(Call),
}

/// A system call of a run.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    name: String,
    /// Which one of that name, from 1.
    at: usize,
}

/// The calls that have an effect, or wait for one: commands to QEMU, files, programs.
const CALLS: &str = "sendto,fsync,fdatasync,fchmod,rename,renameat,renameat2,link,linkat,unlink,unlinkat,ftruncate,clone3,epoll_wait";

/// What a run was that was not killed.
#[derive(Default)]
pub(crate) struct Whole {
    took: Duration,
    calls: Vec<Call>,
}

impl Whole {
    /// Runs a command to its end.
    pub(crate) fn of(host: &Host, words: &[&str]) -> Self {
        let trace = host.scratch.path("calls.trace");
        let mut command = traced(&host.command(words), &trace, CALLS, &[]);
        let start = Instant::now();
        let output = command.output().unwrap();
        let took = start.elapsed();
        assert!(output.status.success(), "{words:?}: {output:?}");
        let text = std::fs::read_to_string(&trace).unwrap();
        let mut counts = BTreeMap::new();
        let calls = text.lines().filter_map(|line| {
            let name = line.split_once('(')?.0.to_owned();
            let at = counts.entry(name.clone()).or_insert(0_usize);
            *at += 1;
            Some(Call { at: *at, name })
        });
        let calls: Vec<Call> = calls.collect();
        assert!(calls.len() > 20, "{text}");
        Self { took, calls }
    }

    /// The calls from the last program's start on.
    pub(crate) fn since_last_program(&self) -> &[Call] {
        let started =
            self.calls.iter().rposition(|call| call.name == "clone3").expect("a program is started");
        &self.calls[started..]
    }
}

impl Call {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Runs a command that is killed before it makes this call, or ends before that.
    pub(crate) fn kill(&self, host: &Host, words: &[&str]) {
        let Self { name, at } = self;
        let inject = ["-e", &format!("inject={name}:signal=KILL:when={at}")];
        let mut command = traced(&host.command(words), &host.scratch.path("calls.trace"), CALLS, &inject);
        let output = command.output().unwrap();
        let is_killed = output.status.signal() == Some(9);
        assert!(is_killed || output.status.success(), "{words:?} {self:?}: {output:?}");
        if is_killed {
            tell_hit(format_args!("{words:?} is killed before {name} {at}"));
        }
    }
}

/// Runs a command that is killed so long after its start.
pub(crate) fn kill_after(host: &Host, words: &[&str], after: Duration) {
    let mut child = host.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // This waits for nothing: it chooses the moment.
    sleep(after);
    child.kill().unwrap();
    if child.wait().unwrap().signal() == Some(9) {
        tell_hit(format_args!("{words:?} is killed after {:.3} s", after.as_secs_f64()));
    }
}

/// Says that an operation was hit: by a kill, a call that failed, or a power cut. `cargo xtask campaign` counts these lines.
pub(crate) fn tell_hit(how: fmt::Arguments<'_>) {
    println!("hit: {how}");
}

/// The same command under strace(1), which writes down these calls of its first thread.
pub(crate) fn traced(command: &Command, trace: &Path, calls: &str, more: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o"]).arg(trace).args(["-e", &format!("trace={calls}")]).args(more);
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    strace.current_dir(command.get_current_dir().unwrap());
    strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    strace
}
