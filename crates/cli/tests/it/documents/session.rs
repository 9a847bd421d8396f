//! A document carried out as one session: a host of its own, on which its lines are run from top to bottom.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::blocks::{self, Part, What, parts};
use super::output::same;

/// What the hidden lines of a document may call.
const PRELUDE: &str = include_str!("prelude.sh");

/// The directories at the top of the host that documents name. The host has its own of each.
const TOP: [&str; 6] = ["srv", "run", "var", "etc", "usr/local", "dev/vg"];

/// Those of them that are there before anything is done.
const THERE: [&str; 10] = [
    "bin",
    "home",
    "srv/vm",
    "srv/iso",
    "srv/saves",
    "run",
    "var/log",
    "etc/bash_completion.d",
    "usr/local/share/man/man1",
    "dev/vg",
];

/// How long a block may take.
const LIMIT: &str = "300";

/// The host of a document.
pub(super) struct Session {
    /// The directory that holds it all.
    dir: PathBuf,
    /// Lines of `[start]` that give a machine a guest, whatever the document says of how it is started.
    guest: String,
    path: String,
}

impl Session {
    /// One in the empty directory `dir`, with `xlsnap` as the command.
    pub(super) fn new(dir: &Path, xlsnap: &Path, guest: &str) -> Self {
        for name in THERE {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        symlink(xlsnap, dir.join("bin/xlsnap")).unwrap();
        let others = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{others}", dir.join("bin").display());
        Self { dir: dir.to_owned(), guest: guest.to_owned(), path }
    }

    /// Carries out a document, and tells how many of its blocks were not run.
    ///
    /// # Panics
    /// When a line of it does not end as it says, or prints something else than it shows.
    pub(super) fn carry_out(&self, name: &str, document: &str) -> usize {
        let began = Instant::now();
        let (mut ran, mut left_out) = (0, 0);
        let mut different = Vec::new();
        for Part { line, what } in parts(document) {
            let at = format!("{name}:{line}");
            println!("{:5.1} s: {at}", began.elapsed().as_secs_f64());
            match what {
                What::Lines(text) => {
                    let output = self.run(&expecting(&text), true);
                    assert!(output.status.success(), "{at}: {}\n{}", output.status, self.told(&output));
                    ran += text.lines().count();
                }
                What::Console(commands) => {
                    ran += commands.len();
                    different.extend(commands.iter().filter_map(|command| self.compare(name, command)));
                }
                What::Start(text) => self.start_as(&text),
                What::NotRun { reason, text } => {
                    println!("{at}: not run, because {reason}:\n{text}");
                    left_out += 1;
                }
            }
        }
        assert!(ran > 0, "{name}: no line was found");
        assert!(different.is_empty(), "{}", different.join("\n"));
        left_out
    }

    /// Runs a command of a `console` block, and tells how it is not what the document shows. It has to fail where the document
    /// shows a failure, and only there.
    fn compare(&self, name: &str, command: &blocks::Command) -> Option<String> {
        let at = format!("{name}:{}: {}", command.line, command.text);
        // Both to one pipe, as a terminal has them.
        let output = self.run(&format!("exec 2>&1\n{}", command.text), false);
        let printed = self.told(&output);
        let fails = command.prints.lines().any(|line| line.starts_with("xlsnap: "));
        assert_eq!(fails, !output.status.success(), "{at}: {}\n{printed}", output.status);
        let is_same = same(&command.prints, &printed);
        (!is_same).then(|| format!("{at}\nshows:\n{}and it prints:\n{printed}", command.prints))
    }

    /// Runs lines of bash on the host.
    fn run(&self, lines: &str, trace: bool) -> Output {
        let trace = if trace { "set -x\n" } else { "" };
        let script = format!("set -euo pipefail\n{PRELUDE}\n{trace}{}", self.inside(lines));
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT, "bash", "-c", &script]);
        command.current_dir(self.dir.join("home")).stdin(Stdio::null());
        command
            .env("PATH", &self.path)
            .env("HOST", &self.dir)
            .env("XLSNAP_ROOT", self.dir.join("var/lib/xlsnap"));
        command.env("TZ", "UTC").env("NO_COLOR", "1");
        command.output().expect("coreutils and bash are installed")
    }

    /// What was printed, with the paths that a document has.
    fn told(&self, output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(self.dir.to_str().unwrap(), "");
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Writes down how the domain `web` is started.
    fn start_as(&self, table: &str) {
        let file = self.dir.join("var/lib/xlsnap/domains/web.toml");
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        fs::write(&file, format!("{text}\n{}{}", self.inside(table), self.guest)).unwrap();
    }

    /// The text with the host's own paths.
    fn inside(&self, text: &str) -> String {
        let mut inside = String::new();
        let mut before = ' ';
        for (at, c) in text.char_indices() {
            let begins_a_path = c == '/' && !(before.is_alphanumeric() || "/._-}$".contains(before));
            let rest = &text[at + 1..];
            if begins_a_path
                && TOP.iter().any(|top| rest.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')))
            {
                inside.push_str(self.dir.to_str().unwrap());
            }
            inside.push(c);
            before = c;
        }
        inside
    }
}

/// No QEMU outlives its host: each names a file of it.
impl Drop for Session {
    fn drop(&mut self) {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_ours = String::from_utf8_lossy(&words).contains(self.dir.to_str().unwrap());
            let pid = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            if let Some(pid) = pid.filter(|_| is_ours) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The lines, each of which has to end with 0, or with the code that its comment tells: `xlsnap ... # exit code 7: why`.
fn expecting(lines: &str) -> String {
    let expecting = |line: &str| match line.split_once("# exit code ") {
        Some((command, rest)) => {
            let code: String = rest.chars().take_while(char::is_ascii_digit).collect();
            format!("ends {code} {command}\n")
        }
        None => format!("{line}\n"),
    };
    lines.lines().map(expecting).collect()
}
