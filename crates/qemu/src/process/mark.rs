//! The mark that a start leaves on its processes, by which they are found when nothing is known of them but that a start was
//! begun.

use std::fs;
use std::io::Read;

use uuid::Uuid;

use super::Identity;
use super::peer::pids;

/// The variable of the environment that holds the start's id. What a process starts inherits it.
pub(super) const VARIABLE: &str = "XLSNAP_START";

/// How much of an environment is read. The kernel allows a quarter of the stack's limit, 2 MiB as a rule.
const MAX_ENVIRONMENT: u64 = 8 << 20;

/// Whether the process of this pid has the mark. One whose environment may not be read has not.
pub(super) fn has(pid: u32, start: Uuid) -> bool {
    let mut environment = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut environment));
    let mark = format!("{VARIABLE}={start}");
    read.is_ok() && environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// The processes that have the mark and live, the oldest first: the program that was started, and what it started in its
/// session. A daemon that it started, which has a session of its own, is not the domain's process.
pub(super) fn processes(start: Uuid) -> Vec<Identity> {
    let Ok(pids) = pids() else { return Vec::new() };
    let own = std::process::id();
    let mut all: Vec<Identity> = pids
        .filter(|pid| *pid != own && has(*pid, start))
        .filter_map(|pid| Identity::of(pid).ok().flatten())
        .collect();
    all.sort_unstable_by_key(|process| (process.start_ticks, process.pid));
    let session = all.first().and_then(Identity::session);
    all.retain(|process| process.session() == session);
    all
}
