//! Running tests: each as a process, so many at once, each with a bound.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::cases::Case;
use super::marked::Mark;
use crate::{Echo, Failure};

/// How the tests are run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    /// How many at once.
    pub(super) at_once: usize,
    /// How long each may take.
    pub(super) bound: Duration,
    pub(super) echo: Echo,
}

/// How all of them ended.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) passed: usize,
    pub(super) ignored: usize,
    /// Of each that failed, its title.
    pub(super) failed: Vec<String>,
    /// What those that passed said that they did not do, and why.
    pub(super) left_out: Vec<String>,
    /// How many hits of operations all of them told.
    pub(super) hits: usize,
    /// What each took, and its title.
    pub(super) times: Vec<(Duration, String)>,
}

/// How one of them ended.
#[derive(Debug)]
struct Ended {
    took: Duration,
    /// Why it failed, and what it printed.
    failure: Option<(String, String)>,
    /// The lines by which it told what it did not do here.
    left_out: Vec<String>,
    /// How many kills, failed calls or power cuts it told.
    hits: usize,
}

impl Pool {
    /// Runs the tests; `prepare` is done to the command of each.
    ///
    /// # Errors
    /// A test that cannot be started at all.
    pub(super) fn run<'a>(
        &self,
        cases: impl IntoIterator<Item = &'a Case, IntoIter: Send>,
        prepare: impl Fn(&mut Command) + Sync,
    ) -> Result<Summary, Failure> {
        let queue = Mutex::new(cases.into_iter().enumerate());
        let summary = Mutex::new(Ok(Summary::default()));
        std::thread::scope(|scope| {
            for _ in 0..self.at_once.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().expect("no worker panics with the queue").next();
                        let Some((number, case)) = next else { return };
                        let ended = (!case.is_ignored).then(|| {
                            let mut command = case.command();
                            prepare(&mut command);
                            one(command, &Mark::new(number), self.bound)
                        });
                        let mut summary = summary.lock().expect("no worker panics with the summary");
                        match (&mut *summary, ended) {
                            (Ok(summary), Some(Ok(ended))) => self.add(summary, case, ended),
                            (Ok(summary), None) => summary.ignored += 1,
                            (Ok(_), Some(Err(e))) => {
                                *summary = Err(Failure(format!("cannot run {}: {e}", case.title)));
                            }
                            (Err(_), _) => return,
                        }
                    }
                });
            }
        });
        summary.into_inner().expect("no worker panics with the summary")
    }

    fn add(&self, summary: &mut Summary, case: &Case, ended: Ended) {
        let title = &case.title;
        if self.echo == Echo::All {
            let word = if ended.failure.is_some() { "FAILED" } else { "ok" };
            eprintln!("{word:>6} {:>7.2} s  {title}", ended.took.as_secs_f64());
        }
        match ended.failure {
            None => summary.passed += 1,
            Some((why, said)) => {
                eprintln!("---- {title}: {why}\n{said}");
                summary.failed.push(title.clone());
            }
        }
        summary.hits += ended.hits;
        summary.left_out.extend(ended.left_out.iter().map(|line| format!("{title}: {line}")));
        summary.times.push((ended.took, title.clone()));
    }
}

/// Runs one test to its end, or to that of its time; nothing of it is left.
fn one(mut command: Command, mark: &Mark, bound: Duration) -> std::io::Result<Ended> {
    let mut said = tempfile::tempfile()?;
    command.stdout(said.try_clone()?).stderr(said.try_clone()?);
    mark.put_on(&mut command);
    let start = Instant::now();
    let mut child = command.spawn()?;
    let (ended, watched) = channel::<()>();
    let (status, is_late) = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let is_late = watched.recv_timeout(bound) == Err(RecvTimeoutError::Timeout);
            if is_late {
                mark.kill_all();
            }
            is_late
        });
        let status = child.wait();
        drop(ended);
        (status, watch.join().expect("killing does not panic"))
    });
    let took = start.elapsed();
    let status = status?;
    mark.kill_all();
    let why = if is_late {
        Some(format!("was ended after {} s", bound.as_secs()))
    } else if status.success() {
        None
    } else {
        Some(format!("failed ({status})"))
    };
    let said = text(&mut said)?;
    let left_out = match why {
        Some(_) => Vec::new(),
        None => said.lines().filter(|line| line.starts_with(LEFT_OUT)).map(str::to_owned).collect(),
    };
    let hits = said.lines().filter(|line| line.starts_with(HIT)).count();
    Ok(Ended { took, failure: why.map(|why| (why, said)), left_out, hits })
}

/// With this begins what a test says where the machine lacks what it takes. It passes all the same.
const LEFT_OUT: &str = "not run: ";

/// With this begins each line that tells of an operation that was killed, of a call of it that failed, or of a power cut.
const HIT: &str = "hit: ";

fn text(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_test_fails_by_its_status_and_what_it_said_is_kept() {
        let bound = Duration::from_secs(60);
        assert!(one(shell("exit 0"), &Mark::new(1_000_001), bound).unwrap().failure.is_none());
        let (why, said) =
            one(shell("echo x; exit 3"), &Mark::new(1_000_002), bound).unwrap().failure.unwrap();
        assert_eq!((why.as_str(), said.as_str()), ("failed (exit status: 3)", "x\n"));
    }

    #[test]
    fn a_test_that_passes_by_doing_nothing_is_told() {
        let script = "echo x; echo 'not run: y, without z' >&2";
        let ended = one(shell(script), &Mark::new(1_000_004), Duration::from_secs(60)).unwrap();
        assert!(ended.failure.is_none());
        assert_eq!(ended.left_out, ["not run: y, without z"]);
    }

    #[test]
    fn hits_are_counted_of_one_that_fails_too() {
        let script = "echo 'hit: a'; echo no hit: b; echo 'hit: c'; exit 1";
        assert_eq!(one(shell(script), &Mark::new(1_000_005), Duration::from_secs(60)).unwrap().hits, 2);
    }

    #[test]
    fn a_test_that_does_not_end_is_ended_with_its_children() {
        let script = "echo before; sleep 600 & sleep 600";
        let ended = one(shell(script), &Mark::new(1_000_003), Duration::from_millis(300)).unwrap();
        let (why, said) = ended.failure.unwrap();
        assert_eq!((why.as_str(), said.as_str()), ("was ended after 0 s", "before\n"));
        assert!(ended.took < Duration::from_secs(300));
    }
}
