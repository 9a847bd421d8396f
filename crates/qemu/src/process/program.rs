//! The program that a domain is started with.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The most of a script that is read.
const MAX_SCRIPT: u64 = 1 << 20;

/// How long a program has to say something of itself.
const WAIT: Duration = Duration::from_secs(10);

/// A program: QEMU, or a script that starts it.
///
/// A script is never run to ask it something: it may start more than QEMU, such as a TPM's swtpm. One that does nothing but
/// become another program with its own arguments counts as that program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Program {
    name: String,
    /// Its text, if it is a script.
    script: Option<String>,
    /// Whether no file of this name is found.
    is_gone: bool,
}

impl Program {
    /// Looks for the program of a command line: a path, or a name in the directories of `path` (execvp(3)).
    pub(crate) fn find(name: &str, path: Option<&OsStr>) -> Self {
        let mut program = Self::look(name, path);
        if let Some(becomes) = program.script.as_deref().and_then(becomes) {
            let other = Self::look(becomes, path);
            if !other.is_gone && other.script.is_none() {
                program = other;
            }
        }
        program
    }

    fn look(name: &str, path: Option<&OsStr>) -> Self {
        let file = file_of(name, path);
        let script = file.as_deref().and_then(text);
        Self { name: name.to_owned(), script, is_gone: file.is_none() }
    }

    /// That it is not there, as a clause.
    pub(crate) fn missing(&self) -> Option<String> {
        self.is_gone.then(|| format!("the program {} is not there", self.name))
    }

    /// Whether it is a script that may see to what has this path: it has its name, or that of the TPM's program.
    pub(super) fn may_make(&self, path: &str) -> bool {
        let name = Path::new(path).file_name().and_then(OsStr::to_str).unwrap_or(path);
        self.says(name) || (self.says("swtpm") && path.contains("tpm"))
    }

    /// Whether it is a script with this text in it.
    pub(super) fn says(&self, text: &str) -> bool {
        self.script.as_ref().is_some_and(|script| script.contains(text))
    }

    /// QEMU's version; `None` when it does not say, or is no QEMU.
    pub(crate) async fn version(&self) -> Option<String> {
        version_in(&self.ask(&["--version"]).await?)
    }

    /// What a machine type's name stands for in this QEMU: `q35` for `pc-q35-10.0`. `None` when it does not say.
    pub(crate) async fn machine(&self, name: &str) -> Option<String> {
        machine_in(&self.ask(&["-machine", "help"]).await?, name)
    }

    async fn ask(&self, words: &[&str]) -> Option<String> {
        if self.script.is_some() || self.is_gone {
            return None;
        }
        let mut command = tokio::process::Command::new(&self.name);
        command.args(words).stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/").kill_on_drop(true);
        let output = tokio::time::timeout(WAIT, command.output()).await.ok()?.ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[cfg(test)]
    pub(super) fn script_of(text: &str) -> Self {
        Self { script: Some(text.to_owned()), ..Self::default() }
    }
}

fn file_of(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(Path::new("/").join(name)).filter(|file| may_be_file(file));
    }
    let directories = std::env::split_paths(path.unwrap_or(OsStr::new("/bin:/usr/bin")));
    let files: Vec<PathBuf> = directories.map(|directory| directory.join(name)).collect();
    let mut found = files.iter().find(|file| file.is_file());
    if found.is_none() {
        found = files.iter().find(|file| may_be_file(file));
    }
    found.cloned()
}

/// Whether it is a file, or cannot be looked at now: missing is what is not there, and what may not be started from here.
fn may_be_file(file: &Path) -> bool {
    match file.metadata() {
        Ok(found) => found.is_file(),
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
        ),
    }
}

/// The text of a script; `None` of another program, and of one that cannot be read.
fn text(file: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let mut file = File::open(file).ok()?.take(MAX_SCRIPT);
    file.by_ref().take(2).read_to_end(&mut bytes).ok()?;
    if bytes != b"#!" {
        return None;
    }
    file.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The program that a script becomes, with the script's own arguments and no others, if it does nothing else.
fn becomes(script: &str) -> Option<&str> {
    let mut lines = script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let program = lines.next()?.strip_prefix("exec ")?.strip_suffix(" \"$@\"")?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    (lines.next().is_none() && program.chars().all(plain)).then_some(program)
}

/// `QEMU emulator version 10.0.2 (Debian ...)`.
fn version_in(said: &str) -> Option<String> {
    let version = said.lines().next()?.strip_prefix("QEMU emulator version ")?;
    let version = version.split_ascii_whitespace().next()?;
    let is_number =
        |part: &str| !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = version.split('.').collect();
    (parts.len() == 3 && parts.into_iter().all(is_number)).then(|| version.to_owned())
}

/// `q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)`.
fn machine_in(said: &str, name: &str) -> Option<String> {
    let line = said.lines().find(|line| line.split_ascii_whitespace().next() == Some(name))?;
    let alias = line.rsplit_once("(alias of ").and_then(|(_, rest)| rest.split_once(')'));
    Some(alias.map_or(name, |(machine, _)| machine).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_its_version() {
        let said = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)\nCopyright";
        assert_eq!(version_in(said).as_deref(), Some("10.0.2"));
        assert_eq!(version_in("QEMU emulator version 7.2.22").as_deref(), Some("7.2.22"));
        let with = |version: &str| format!("QEMU emulator version {version}");
        for wrong in [String::new(), "sudo 1.9".to_owned(), with(""), with("10.0"), with("a.b.c")] {
            assert_eq!(version_in(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_machine_s_name_stands_for_another() {
        let said = "Supported machines are:\nmicrovm   microvm (i386)\n\
                    pc-q35-10.0  Standard PC (Q35 + ICH9, 2009)\nq35  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)\n";
        assert_eq!(machine_in(said, "q35").as_deref(), Some("pc-q35-10.0"));
        assert_eq!(machine_in(said, "pc-q35-10.0").as_deref(), Some("pc-q35-10.0"));
        assert_eq!(machine_in(said, "microvm").as_deref(), Some("microvm"));
        assert_eq!(machine_in(said, "pc"), None);
    }

    #[test]
    fn a_script_that_only_becomes_a_program_is_that() {
        assert_eq!(becomes("#!/bin/sh\n# why\nexec /usr/bin/kvm \"$@\"\n"), Some("/usr/bin/kvm"));
        for other in ["exec kvm -m 1 \"$@\"", "swtpm -d\nexec kvm \"$@\"", "kvm \"$@\"", "exec $Q \"$@\"", ""]
        {
            assert_eq!(becomes(&format!("#!/bin/sh\n{other}\n")), None, "{other}");
        }
    }
}
