//! What the guest says.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The guest's console: a file that each QEMU appends to.
#[derive(Debug, Clone)]
pub struct Console {
    file: PathBuf,
    from: usize,
}

/// What the guest found on a disk when it booted: the last record of an earlier boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The disk, by the guest's name: `vda`.
    pub disk: String,
    /// Which boot wrote last to it, from 1, and the count that it wrote; `None` when none did.
    pub last: Option<(u64, u64)>,
}

impl Console {
    /// What is said from now on to `file`, which need not be there yet.
    pub fn from_now(file: &Path) -> Self {
        let mut console = Self { file: file.to_owned(), from: 0 };
        console.forget();
        console
    }

    /// Forgets what was said so far.
    pub fn forget(&mut self) {
        self.from = self.bytes().len();
    }

    /// Everything that was said, with the line that is not ended yet.
    pub fn text(&self) -> String {
        let bytes = self.bytes();
        String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned()
    }

    /// The counts that it said, in the order in which it did.
    pub fn ticks(&self) -> Vec<u64> {
        self.lines().iter().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect()
    }

    /// The counts that it said it has in its file.
    pub fn file_counts(&self) -> Vec<u64> {
        self.lines().iter().filter_map(|line| line.strip_prefix("file ")?.parse().ok()).collect()
    }

    /// The same as [`Console::ticks`], cut into runs: a new one begins wherever the count went back, which is what a boot or a revert looks like.
    pub fn runs(&self) -> Vec<RangeInclusive<u64>> {
        let ticks = self.ticks();
        let runs = ticks.chunk_by(|before, after| before < after);
        runs.map(|run| run[0]..=run[run.len() - 1]).collect()
    }

    /// The last count.
    pub fn last_tick(&self) -> Option<u64> {
        self.ticks().pop()
    }

    /// What it found on its disks when it booted, each time.
    pub fn found(&self) -> Vec<Found> {
        let found = |line: &String| {
            let mut words = line.strip_prefix("FOUND ")?.split(' ');
            let disk = words.next().filter(|disk| *disk != "file")?.to_owned();
            let mut number = |word| if words.next()? == word { words.next()?.parse().ok() } else { None };
            Some(Found { disk, last: number("boot").zip(number("count")) })
        };
        self.lines().iter().filter_map(found).collect()
    }

    /// The count that it found in its file when it booted last.
    pub fn found_in_file(&self) -> Option<u64> {
        self.lines().iter().rev().find_map(|line| line.strip_prefix("FOUND file count ")?.parse().ok())
    }

    /// The first complaint that disk and memory, or disks, are not of one instant.
    pub fn disagreement(&self) -> Option<String> {
        self.lines().into_iter().find(|line| line.starts_with("DISAGREE "))
    }

    /// The first complaint of another kind, which no test wants: the guest's own, or the kernel's panic.
    fn breakage(&self) -> Option<String> {
        let is_one = |line: &String| line.starts_with("BROKEN ") || line.contains("Kernel panic");
        self.lines().into_iter().find(is_one)
    }

    /// Waits until the last run is beyond the count `n`, and gives the count.
    ///
    /// # Panics
    /// When it is not within `deadline`, or the guest complains.
    pub fn wait_tick_beyond(&self, n: u64, deadline: Duration) -> u64 {
        self.wait_tick_while(n, deadline, || {})
    }

    pub(super) fn wait_tick_while(&self, n: u64, deadline: Duration, check: impl FnMut()) -> u64 {
        self.wait(&format!("it counts beyond {n}"), deadline, check, || {
            if let Some(complaint) = self.disagreement() {
                panic!("the guest says: {complaint}");
            }
            self.last_tick().filter(|tick| *tick > n)
        })
    }

    /// Waits until the guest says that disk and memory disagree, and gives what it says.
    ///
    /// # Panics
    /// When it does not within `deadline`.
    pub fn wait_disagreement(&self, deadline: Duration) -> String {
        self.wait("it says that something disagrees", deadline, || {}, || self.disagreement())
    }

    pub(super) fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut check: impl FnMut(),
        mut probe: impl FnMut() -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = probe() {
                return found;
            }
            if let Some(complaint) = self.breakage() {
                panic!("the guest says: {complaint}");
            }
            check();
            let said = || self.text();
            assert!(
                start.elapsed() < deadline,
                "waited {deadline:?} in vain until {what}; it said:\n{}",
                said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The lines that have ended. The first may be the end of one that began before.
    fn lines(&self) -> Vec<String> {
        let text = self.text();
        let ended = text.rfind('\n').map_or("", |end| &text[..=end]);
        ended.lines().map(str::to_owned).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        // QEMU makes it.
        fs::read(&self.file).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> (tempfile::NamedTempFile, Console) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let console = Console::from_now(file.path());
        fs::write(file.path(), text).expect("it can be written");
        (file, console)
    }

    #[test]
    fn a_run_ends_where_the_count_goes_back() {
        let (_file, console) = console("k 3\r\ntick 4\r\ntick 5\r\ntick 2\r\ntick 3\r\ntick 9");
        assert_eq!((console.ticks(), console.last_tick()), (vec![4, 5, 2, 3], Some(3)));
        assert_eq!(console.runs(), [4..=5, 2..=3]);
    }

    #[test]
    fn what_was_said_before_is_forgotten() {
        let (file, mut console) = console("tick 7\nDISAGREE a\n");
        assert!(console.disagreement().is_some());
        console.forget();
        assert_eq!((console.disagreement(), console.last_tick()), (None, None));
        let text = "tick 7\nDISAGREE a\nFOUND vda boot 2 count 30\nFOUND vdb nothing\n";
        fs::write(file.path(), text).expect("it can be written");
        let found = [("vda", Some((2, 30))), ("vdb", None)];
        assert_eq!(console.found(), found.map(|(disk, last)| Found { disk: disk.into(), last }));
    }
}
