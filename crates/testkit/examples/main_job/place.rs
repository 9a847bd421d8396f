//! Where all of it happens, and lines that are typed there.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) type Step<T = ()> = Result<T, Box<dyn Error>>;

/// Where all of it happens.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) xlsnap: PathBuf,
}

impl Place {
    /// Shows the line, runs it, and shows and gives what it printed.
    pub(crate) fn typed(&self, line: &[&str]) -> Step<String> {
        let (succeeded, printed) = self.tried(line)?;
        if succeeded { Ok(printed) } else { Err(format!("this failed: {}", shown(line)).into()) }
    }

    /// The same with whether it succeeded, and no opinion on that.
    pub(crate) fn tried(&self, line: &[&str]) -> Step<(bool, String)> {
        println!("$ {}", shown(line));
        let output = self.command(line).output().map_err(|e| format!("cannot run {}: {e}", line[0]))?;
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        print!("{printed}");
        Ok((output.status.success(), printed))
    }

    /// `line`, in the directory, with the right xlsnap, and with nothing of the caller's in its settings.
    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let program = if line[0] == "xlsnap" { self.xlsnap.as_path() } else { Path::new(line[0]) };
        let mut command = Command::new(program);
        command.args(&line[1..]).current_dir(&self.directory).stdin(Stdio::null());
        command.env("XLSNAP_ROOT", self.directory.join("records"));
        command
    }

    /// Reads back the first mebibyte of a disk that no process has open.
    pub(crate) fn must_hold(&self, disk: &str, byte: &str) -> Step {
        let image = format!("{disk}.qcow2");
        let line = ["qemu-io", "-r", "-f", "qcow2", "-c", &format!("read -P {byte} 0 1M"), &image];
        let (succeeded, printed) = self.tried(&line)?;
        let holds =
            succeeded && printed.contains("read 1048576/1048576") && !printed.contains("verification failed");
        if holds { Ok(()) } else { Err(format!("{image} does not hold {byte} in its first mebibyte").into()) }
    }
}

pub(crate) fn say(text: &str) {
    println!("\n# {text}");
}

/// The line as it would be typed into a shell.
pub(crate) fn shown(line: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:".contains(c);
    let words: Vec<String> = line
        .iter()
        .map(|word| if word.chars().all(plain) { (*word).to_owned() } else { format!("'{word}'") })
        .collect();
    words.join(" ")
}
