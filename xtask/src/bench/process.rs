//! A process from its start to its end, measured.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wait4::Wait4;

use crate::Failure;

/// What one run of a process took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// From before its start until its end was seen.
    pub(super) wall: Duration,
    /// What the processor spent on it, its own code and the kernel's: a busy machine makes this little longer.
    pub(super) processor: Duration,
    /// The most memory that it had at once, in bytes. Linux counts in what the process was before it became the
    /// program, so this is never less than what this program, which starts it, has itself.
    pub(super) peak_memory: u64,
}

impl Run {
    /// Work that was not a process of its own.
    pub(super) fn of_wall(wall: Duration) -> Self {
        Self { wall, processor: Duration::ZERO, peak_memory: 0 }
    }

    pub(super) fn processor_milliseconds(&self) -> f64 {
        self.processor.as_secs_f64() * 1e3
    }

    pub(super) fn milliseconds(&self) -> f64 {
        self.wall.as_secs_f64() * 1e3
    }

    pub(super) fn mebibytes(&self) -> f64 {
        self.peak_memory as f64 / f64::from(1 << 20)
    }
}

/// A directory for one scenario, gone afterwards. Its path is short, as those of sockets have to be.
pub(super) fn scratch() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("xlsnap-bench-")
        .tempdir()
        .map_err(|e| Failure(format!("no directory for the scenario: {e}")))
}

/// Runs `command` without input and with its output thrown away; what it said is in the failure.
pub(super) fn run(command: &mut Command) -> Result<Run, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| Failure(format!("{program}: {why}"));
    let no_file = |e| failed(format!("no file for what it says: {e}"));
    let mut said = tempfile::tempfile().map_err(no_file)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone().map_err(no_file)?);
    let start = Instant::now();
    let child = command.spawn().map_err(|e| failed(format!("cannot be run: {e}")))?;
    let used = child.wait4().map_err(|e| failed(format!("its end was not seen: {e}")))?;
    let wall = start.elapsed();
    if !used.status.success() {
        let mut why = String::new();
        // Without it there is still the status.
        let _ = said.rewind().and_then(|()| said.read_to_string(&mut why));
        return Err(failed(format!("failed ({}) {}", used.status, why.trim())));
    }
    let processor = used.rusage.utime + used.rusage.stime;
    Ok(Run { wall, processor, peak_memory: used.rusage.maxrss })
}

/// Runs a command for each file, all at once.
pub(super) fn on_each(files: &[PathBuf], of: impl Fn(&Path) -> Command + Sync) -> Result<(), Failure> {
    let of = &of;
    std::thread::scope(|scope| {
        let runs: Vec<_> = files.iter().map(|file| scope.spawn(move || run(&mut of(file)))).collect();
        runs.into_iter().try_for_each(|run| run.join().expect("running does not panic").map(drop))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_those_of_the_process() {
        // The shell holds a variable of 64 MiB.
        let hungry =
            run(Command::new("sh").args(["-c", "x=$(head -c 67108864 /dev/zero | tr '\\0' x); : ${#x}"]))
                .unwrap();
        let idle = run(&mut Command::new("true")).unwrap();
        assert!(hungry.peak_memory > 64 << 20, "{hungry:?}");
        assert!(idle.peak_memory < 48 << 20, "{idle:?}");
        assert!(idle.wall < hungry.wall);
    }

    #[test]
    fn a_failing_process_is_no_measurement() {
        assert!(run(&mut Command::new("false")).unwrap_err().0.starts_with("false: failed"));
    }
}
