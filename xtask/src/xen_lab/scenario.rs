//! The scenarios: scripts that run in dom0, one after the other.

use std::fs;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use super::all::tell;
use super::dom0::{Dom0, NOT_REACHED, TIMED_OUT};
use super::install::SCENARIOS;
use crate::command::top;
use crate::{Done, Echo, Failure};

/// None needs a tenth of it. It is counted by dom0's clock.
const LIMIT: Duration = Duration::from_secs(600);

/// The same by ours, which is ahead of dom0's while this machine is busy with other things.
const OUR_LIMIT: Duration = Duration::from_secs(2400);

/// The names of those that are `named`, or of all.
pub(super) fn chosen(named: &[String]) -> Result<Vec<String>, Failure> {
    let all = all().map_err(|e| Failure(format!("cannot list ci/xen-lab/scenarios: {e}")))?;
    if let Some(name) = named.iter().find(|name| !all.contains(name)) {
        return Err(Failure(format!("there is no scenario {name}; there are {}", all.join(", "))));
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

fn all() -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(top().join("ci/xen-lab/scenarios"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".sh").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Runs them all, and shows of those that failed all that they said. Each waits for an emulated host with deadlines, which a busy
/// machine can miss: so one that fails is tried once more, and that is told.
pub(super) fn run(dom0: &Dom0, names: &[String], echo: Echo) -> Done {
    let mut failed = Vec::new();
    for name in names {
        let start = Instant::now();
        match run_one(dom0, name)? {
            None => tell(echo, name, start),
            Some(said) => {
                let seconds = start.elapsed().as_secs_f64();
                eprintln!(
                    "{said}xen-lab: {name}: FAILED after {seconds:.1} s, see above; it is tried once more"
                );
                match run_one(dom0, name)? {
                    None => eprintln!("xen-lab: {name}: passed at its second try"),
                    Some(said) => {
                        eprintln!("{said}xen-lab: {name}: FAILED again, see above");
                        failed.push(name.as_str());
                    }
                }
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure(format!("{} of {} scenarios failed: {}", failed.len(), names.len(), failed.join(", "))))
    }
}

/// What a scenario said, if it failed.
fn run_one(dom0: &Dom0, name: &str) -> Result<Option<String>, Failure> {
    let cannot = |e| Failure(format!("cannot run {name}: {e}"));
    let mut said = tempfile::tempfile().map_err(cannot)?;
    // The limit is dom0's to keep: ended here, ssh would leave what it started.
    let script =
        format!("exec timeout --kill-after=20s {} bash {SCENARIOS}/lib/run {name} 2>&1", LIMIT.as_secs());
    let mut ssh = dom0.shell(OUR_LIMIT, &script);
    ssh.stdout(said.try_clone().map_err(cannot)?);
    let status = ssh.status().map_err(cannot)?;
    if status.success() {
        return Ok(None);
    }
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut text)).map_err(cannot)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    match status.code() {
        // Nothing more will come from there.
        Some(NOT_REACHED) => Err(Failure(format!("{text}dom0 was lost in {name}"))),
        Some(TIMED_OUT) => {
            text.push_str(&format!("it was ended after {} s\n", LIMIT.as_secs()));
            Ok(Some(text))
        }
        _ => Ok(Some(text)),
    }
}
