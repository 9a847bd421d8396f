//! Which ways there are to save a guest's memory, and what would be in the way of its file.

use std::fs;

use futures_util::future::{join, try_join4};
use xlsnap_memory_file::{MemoryFile, MissingDirectory};
use xlsnap_orchestrator::{Can, MemorySurvey, PortError};
use xlsnap_qmp_transport::commands::{
    JobStatus, MigrateSetCapabilities, MigrationCapability, MigrationInfo, QueryJobs, QueryMemorySizeSummary,
    QueryMigrate, QueryMigrateCapabilities, QueryStatus, RunState, StatusInfo,
};
use xlsnap_qmp_transport::{Command, Kind, Qmp, QmpExt};
use xlsnap_types::model::MemoryWay;

use super::settings::{self, BACKGROUND, SWITCHOVER};
use super::{faults, input, migration, socket};
use crate::error;

/// The ways, the one with the least pause first.
const WAYS: [MemoryWay; 4] =
    [MemoryWay::Background, MemoryWay::Switchover, MemoryWay::Stopped, MemoryWay::Internal];

/// What is no memory of the guest's takes this at most: the devices, and their own memory.
const DEVICES: u64 = 32 << 20;

/// What is known of a QEMU beforehand.
pub(crate) struct Known<'a> {
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// The process that opened its monitor's socket: itself, as a rule.
    pub(crate) listener: Option<u32>,
    /// Whether it has `snapshot-save`.
    pub(crate) saves_inside: bool,
    /// Why none of its disks takes a snapshot inside.
    pub(crate) no_inside: Option<&'a str>,
}

/// A survey that finds no way, for `why`.
pub(crate) fn no_way(why: &str) -> MemorySurvey {
    MemorySurvey { lacking: WAYS.map(|way| (way, why.to_owned())).into(), ..MemorySurvey::default() }
}

/// Asks QEMU. What it takes to ask is undone.
pub(crate) async fn of(qmp: &dyn Qmp, known: &Known<'_>) -> Result<MemorySurvey, PortError> {
    let status = match qmp.execute(QueryStatus).await {
        Ok(status) => status,
        Err(e) if e.kind() == Kind::Rejected => {
            return Ok(no_way("a storage daemon has its disks, and there is no guest"));
        }
        Err(e) => return Err(unanswered(e)),
    };
    let (info, capabilities, jobs, size) = try_join4(
        ask(qmp, QueryMigrate),
        ask(qmp, QueryMigrateCapabilities),
        ask(qmp, QueryJobs),
        ask(qmp, QueryMemorySizeSummary),
    )
    .await?;
    let memory = size.base_memory.saturating_add(size.plugged_memory);
    let needed = needed(memory, known.pid.and_then(resident));
    let job = jobs.iter().find(|job| !matches!(job.status, JobStatus::Concluded | JobStatus::Null));
    let obstacle = obstacle(&status, &info, job.map(|job| (job.id.as_str(), job.job_type.as_str())));
    let mut survey = match obstacle {
        Some(why) => no_way(&why),
        None => {
            let mut survey = MemorySurvey::default();
            let user = known.pid.or(known.listener).and_then(another_user);
            let is_passed = user.is_none() || socket::can_be_passed(qmp).await?;
            let other_user = user.filter(|_| !is_passed).map(cannot_reach);
            for way in WAYS {
                let fault = faults::fault(qmp, known.pid, way).await?;
                let lacks = match way {
                    MemoryWay::Internal => inside(known),
                    _ if other_user.is_some() => other_user.clone(),
                    _ if fault.is_some() => fault,
                    MemoryWay::Background => background(qmp, &status, &capabilities).await?,
                    _ => of_stopped(way, &status, &capabilities),
                };
                if let (MemoryWay::Background, Some(why)) = (way, &lacks) {
                    let input = known.pid.and_then(input::at_stake).filter(|at_stake| at_stake == why);
                    survey.mendable = match input {
                        Some(why) => Some(lost_input(&why)),
                        None => user.filter(|_| is_passed).and_then(may_not_track),
                    };
                }
                match lacks {
                    None => survey.ways.push(way),
                    Some(why) => survey.lacking.push((way, why)),
                }
            }
            survey
        }
    };
    survey.needed = needed;
    Ok(survey)
}

/// What is in the way of every way, as a clause.
fn obstacle(status: &StatusInfo, info: &MigrationInfo, job: Option<(&str, &str)>) -> Option<String> {
    let is_at_rest = matches!(status.status, RunState::Paused | RunState::Prelaunch);
    if !status.running && !is_at_rest {
        return Some(format!("the guest is in the state {}", status.status.word()));
    }
    if !migration::is_over(info) {
        return Some("QEMU is migrating already".to_owned());
    }
    if let Some(why) = info.blocked_reasons.first() {
        return Some(format!("QEMU cannot migrate it: {}", why.trim()));
    }
    job.map(|(id, kind)| format!("the job {id:?} ({kind}) is at work"))
}

/// Why the guest's memory cannot be saved in the background.
async fn background(
    qmp: &dyn Qmp,
    status: &StatusInfo,
    capabilities: &[MigrationCapability],
) -> Result<Option<String>, PortError> {
    if !capabilities.iter().any(|c| c.capability == BACKGROUND) {
        return Ok(Some("this QEMU has no background snapshots".to_owned()));
    }
    if status.status == RunState::Prelaunch {
        // "invalid runstate transition: 'prelaunch' -> 'paused'", and QEMU aborts (7.2 and 10.0).
        return Ok(Some("the guest has not run since it was started or reset".to_owned()));
    }
    if !status.running && qmp.version() < KEEPS_PAUSED {
        return Ok(Some("this QEMU would let the paused guest run".to_owned()));
    }
    // QEMU looks at the kernel, the guest's memory and its own set-up only when the capability is set.
    let (after, before) = settings::changes(capabilities, MemoryWay::Background);
    if after.is_empty() {
        return Ok(None);
    }
    // Both are on their way before this can be dropped, so that it is never left set.
    let try_it = qmp.execute(MigrateSetCapabilities { capabilities: after });
    let put_back = qmp.execute(MigrateSetCapabilities { capabilities: before });
    let (tried, put_back) = join(try_it, put_back).await;
    put_back.map_err(unanswered)?;
    match tried {
        Ok(_) => Ok(None),
        Err(e) if e.kind() == Kind::Rejected => Ok(Some(format!("QEMU says: {}", said(&e)))),
        Err(e) => Err(unanswered(e)),
    }
}

/// The first QEMU that leaves a guest as it was during a background snapshot: before, each ran. Nothing in its commands tells.
const KEEPS_PAUSED: (u32, u32, u32) = (9, 0, 0);

/// Why it cannot be saved while it stands still at the end of a migration.
fn of_stopped(way: MemoryWay, status: &StatusInfo, capabilities: &[MigrationCapability]) -> Option<String> {
    if !status.running {
        // "postmigrate": no command but `cont` leads out of it, and no second migration is possible before.
        return Some("QEMU would leave the paused guest as one that has gone elsewhere".to_owned());
    }
    let has = capabilities.iter().any(|c| c.capability == SWITCHOVER);
    (way == MemoryWay::Switchover && !has)
        .then(|| "this QEMU cannot wait at the end of a migration".to_owned())
}

fn inside(known: &Known<'_>) -> Option<String> {
    if !known.saves_inside {
        return Some("this QEMU has no command for it (snapshot-save)".to_owned());
    }
    known.no_inside.map(str::to_owned)
}

/// The user that a QEMU runs as, if that is neither root nor ours.
fn another_user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let theirs = effective_user(&status)?;
    let ours = rustix::process::geteuid().as_raw();
    (theirs != 0 && theirs != ours).then_some(theirs)
}

/// Why QEMU cannot send its memory to a socket that only we, and root, can reach; one that it is passed it need not reach.
fn cannot_reach(user: u32) -> String {
    format!(
        "QEMU runs as the user {user}, who cannot reach the socket that takes the memory, and its monitor carries no descriptors"
    )
}

/// What keeps a user without privileges from tracking a guest's writes, and what lets it (userfaultfd(2)).
fn may_not_track(user: u32) -> Option<String> {
    let allowed = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").ok()?;
    (allowed.trim() == "0").then(|| {
        format!(
            "the memory cannot be saved in the background, so that the guest stands still for longer: QEMU runs as the user {user}, \
             who may not track its writes; to let every user do that: sysctl -w vm.unprivileged_userfaultfd=1"
        )
    })
}

/// What keeps a QEMU from it whose standard input is something else by now.
fn lost_input(why: &str) -> String {
    format!("the memory cannot be saved in the background, so that the guest stands still for longer: {why}")
}

/// Of `/proc/PID/status` (proc_pid_status(5)): the second of `Uid`.
fn effective_user(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// How much room the file needs at most: pages that were never touched are sent as a few bytes each.
fn needed(memory: u64, resident: Option<u64>) -> u64 {
    /// A page of 4 KiB of zeros takes less than that.
    const PER_PAGE: u64 = 16;
    let touched = resident.map_or(memory, |resident| resident.min(memory));
    touched.saturating_add(memory / 4096 * PER_PAGE).saturating_add(DEVICES)
}

/// The memory that a QEMU has touched, in the machine's memory or swapped out; `None` when that cannot be looked at.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kilobytes(&status).map(|kilobytes| kilobytes.saturating_mul(1024))
}

/// Of `/proc/PID/status` (proc_pid_status(5)).
fn kilobytes(status: &str) -> Option<u64> {
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let others = ["VmSwap", "HugetlbPages"].map(|name| value(name).unwrap_or(0));
    others.into_iter().try_fold(value("VmRSS")?, u64::checked_add)
}

/// What would be in the way of a file at `file`: fills that part of a survey in.
///
/// # Cancel safety
/// It only looks.
pub(crate) async fn look_at_place(survey: &mut MemorySurvey, file: &str) {
    let looked = match MemoryFile::new(file) {
        Ok(file) => file.place(MissingDirectory::Refuse).await,
        Err(e) => Err(e),
    };
    match looked {
        Ok(place) => {
            (survey.free, survey.taken) = (place.free, place.taken);
            survey.place = Can::unless(place.obstacle);
        }
        Err(e) => survey.place = Can::no(e.to_string()),
    }
}

async fn ask<C: Command>(qmp: &dyn Qmp, command: C) -> Result<C::Ok, PortError> {
    qmp.execute(command).await.map_err(unanswered)
}

fn unanswered(error: xlsnap_qmp_transport::Error) -> PortError {
    error::of_query("QEMU could not be asked how the memory can be saved".into(), error)
}

/// QEMU's own words in a refusal.
fn said(refusal: &xlsnap_qmp_transport::Error) -> String {
    let text = refusal.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, said)| said.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_room_is_what_was_touched() {
        const MIB: u64 = 1 << 20;
        let around = |needed: u64, mib: u64| (mib * MIB..(mib + 40) * MIB).contains(&needed);
        assert!(around(needed(256 * MIB, Some(90 * MIB)), 90));
        assert!(around(needed(256 * MIB, Some(900 * MIB)), 256));
        assert!(around(needed(256 * MIB, None), 256));
        assert_eq!(needed(u64::MAX, None), u64::MAX);
        let status = "Name:\tqemu\nVmRSS:\t   90 kB\nVmSwap:\t 5 kB\nHugetlbPages:\t       4 kB\n";
        assert_eq!(kilobytes(status), Some(99));
        assert_eq!(kilobytes("VmRSS: 7 kB\n"), Some(7));
        assert_eq!(kilobytes("VmRSS: x kB\nVmSwap: 1 kB"), None);
    }

    #[test]
    fn a_qemu_of_another_user_cannot_reach_our_socket() {
        assert_eq!(effective_user("Name:\tqemu\nUid:\t64055\t64056\t64055\t64055\n"), Some(64056));
        assert_eq!(effective_user("Name:\tqemu\n"), None);
        assert_eq!(another_user(std::process::id()), None);
    }

    #[tokio::test]
    async fn a_place_has_obstacles() {
        let directory = tempfile::tempdir().unwrap();
        let look = async |file: &Path| {
            let mut survey = MemorySurvey::default();
            look_at_place(&mut survey, file.to_str().unwrap()).await;
            survey
        };
        let free = look(&directory.path().join("m.save")).await;
        assert!(free.place.is_yes() && !free.taken && free.free.unwrap() > 0, "{free:?}");
        fs::write(directory.path().join("m.save"), "").unwrap();
        assert!(look(&directory.path().join("m.save")).await.taken);
        assert!(look(&directory.path().join("none/m.save")).await.place.why().unwrap().contains("not there"));
        assert!(look(Path::new("m.save")).await.place.why().unwrap().contains("absolute"));
    }
}
