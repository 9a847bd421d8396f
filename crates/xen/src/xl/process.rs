//! Processes of xl, found in `/proc`, and ended.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use rustix::process::{Pid, PidfdFlags, Signal};
use xlsnap_qemu::process::{Identity, has_ended};

use super::live::quoted;

/// The processes whose command line saves into `file`, or sends what is taken into it.
///
/// # Errors
/// When one of the processes cannot be looked at: it may be one that saves.
pub(super) fn that_save_into(file: &Path) -> io::Result<Vec<Identity>> {
    let sent = quoted(file);
    let find = |word: &[u8], part: &[u8]| word.windows(part.len()).any(|found| found == part);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = pid_of(&entry?) else { continue };
        let words = words(pid)?;
        let has = |wanted: &[u8]| words.iter().any(|word| word == wanted);
        let saves = has(b"save") && has(file.as_os_str().as_bytes())
            || has(b"migrate") && words.iter().any(|word| find(word, sent.as_bytes()));
        if saves {
            found.extend(Identity::of(pid)?);
        }
    }
    Ok(found)
}

/// libxl's helpers below these processes, which write `file`: known by that, not by their name. Of an xl that sends, all that it started: we
/// have the file.
pub(super) fn helpers_of(parents: &[Identity], file: &Path) -> Vec<Identity> {
    let Ok(of) = fs::metadata(file) else { return Vec::new() };
    let is_helper = |pid: u32| {
        let parent: u32 = stat(pid)?.get(1)?.parse().ok()?;
        let is_below = parents.iter().any(|of| of.pid == parent);
        (is_below
            && (words(parent).ok()?.iter().any(|word| word == b"migrate") || position_in(pid, &of).is_some()))
        .then_some(())
    };
    let found = pids().filter(|pid| is_helper(*pid).is_some());
    found.filter_map(|pid| Identity::of(pid).ok().flatten()).collect()
}

/// How far a process in the group of `leader` has read or written `file`.
pub(super) fn position(leader: u32, file: &Path) -> Option<u64> {
    let of = fs::metadata(file).ok()?;
    pids().filter(|pid| group(*pid) == Some(leader)).filter_map(|pid| position_in(pid, &of)).max()
}

fn position_in(pid: u32, of: &fs::Metadata) -> Option<u64> {
    let opened = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let is_it = |at: &Path| fs::metadata(at).is_ok_and(|at| (at.dev(), at.ino()) == (of.dev(), of.ino()));
    let numbers = opened.filter(|entry| is_it(&entry.path())).map(|entry| entry.file_name());
    let position = |number: std::ffi::OsString| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.to_str()?)).ok()?;
        info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
    };
    numbers.filter_map(position).max()
}

/// The words of a process's command line; none of one that has ended.
fn words(pid: u32) -> io::Result<Vec<Vec<u8>>> {
    let line = match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => line,
        Err(error) if has_ended(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

fn group(pid: u32) -> Option<u32> {
    stat(pid)?.get(2)?.parse().ok()
}

/// What follows a process's name in its `stat` (proc_pid_stat(5)): state, parent, process group, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?).into_owned();
    Some(text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().map(str::to_owned).collect())
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| pid_of(&entry))
}

fn pid_of(entry: &fs::DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.parse().ok()
}

/// Sends a signal to a process, and to no other one that has its pid by now.
pub(super) fn signal(process: &Identity, signal: Signal) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    // The pid stays its own while the descriptor is open, so looking after opening leaves no doubt.
    let Ok(held) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    if lives(process) {
        // It may have ended just now, which is what is wanted.
        let _ = rustix::process::pidfd_send_signal(&held, signal);
    }
}

/// Whether it still lives. One that cannot be looked at counts as living.
pub(super) fn lives(process: &Identity) -> bool {
    process.lives().unwrap_or(true)
}
