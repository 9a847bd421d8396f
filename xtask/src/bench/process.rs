//! A process from its start to its end, measured.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4;

use crate::Failure;

/// What one run of a process took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// From before its start until its end was seen.
    pub(super) wall: Duration,
    /// The most memory that it had at once, in bytes. Linux counts in what the process was before it became the
    /// program, so this is never less than what this program, which starts it, has itself.
    pub(super) peak_memory: u64,
}

/// Runs `command` without input and with its output thrown away.
pub(super) fn run(command: &mut Command) -> Result<Run, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| Failure(format!("{program}: {why}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().map_err(|e| failed(format!("cannot be run: {e}")))?;
    let used = child.wait4().map_err(|e| failed(format!("its end was not seen: {e}")))?;
    let wall = start.elapsed();
    if !used.status.success() {
        return Err(failed(format!("failed ({})", used.status)));
    }
    Ok(Run { wall, peak_memory: used.rusage.maxrss })
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
