//! What is written to disks and looked for on them.

use std::path::Path;
use std::process::Command;

/// One byte's value over a range of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// The value.
    pub byte: u8,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many bytes have it.
    pub len: u64,
}

impl Data {
    /// `byte` over the first 128 KiB: two clusters of an image with the usual ones.
    pub fn of(byte: u8) -> Self {
        Self { byte, offset: 0, len: 128 << 10 }
    }

    /// The same further on.
    #[must_use]
    pub fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    pub(super) fn write_command(self) -> String {
        format!("write -P {} {} {}", self.byte, self.offset, self.len)
    }

    fn read_command(self) -> String {
        format!("read -P {} {} {}", self.byte, self.offset, self.len)
    }
}

/// A process that has disks open, and reads and writes them as a guest would.
pub trait LiveDisks {
    /// Writes to the disk called `disk`.
    fn write(&self, disk: &str, data: Data);

    /// Whether the disk holds `data` now.
    fn holds(&self, disk: &str, data: Data) -> bool;

    /// The byte at `offset` of the disk.
    fn byte_at(&self, disk: &str, offset: u64) -> u8;
}

/// What to open: a file with its format, or an export.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    File(&'a Path, &'a str),
    Export { name: &'a str, socket: &'a Path },
}

/// Writes by qemu-io.
pub(super) fn write(target: Target<'_>, data: Data) {
    let output = qemu_io(target, false, &data.write_command());
    assert!(output.0, "qemu-io could not write to {target:?}: {}", output.1);
}

/// Reads and compares by qemu-io, without writing anything.
pub(super) fn holds(target: Target<'_>, data: Data) -> bool {
    let (ok, text) = qemu_io(target, true, &data.read_command());
    let differs = text.contains("Pattern verification failed");
    assert!(ok || differs, "qemu-io could not read {target:?}: {text}");
    !differs
}

/// Reads a byte by qemu-io, without writing anything.
pub(super) fn byte_at(target: Target<'_>, offset: u64) -> u8 {
    let (ok, text) = qemu_io(target, true, &format!("read -v {offset} 1"));
    assert!(ok, "qemu-io could not read {target:?}: {text}");
    // "00000000:  2a  *", and then what it read and how fast.
    let byte = text.split_whitespace().nth(1).and_then(|byte| u8::from_str_radix(byte, 16).ok());
    byte.unwrap_or_else(|| panic!("qemu-io shows no byte: {text}"))
}

fn qemu_io(target: Target<'_>, read_only: bool, command: &str) -> (bool, String) {
    let mut program = Command::new("qemu-io");
    program.args(read_only.then_some("-r"));
    match target {
        Target::File(path, format) => {
            // Options are separated by commas; fixtures have none in their names.
            let path = path.to_str().expect("a fixture's path is text");
            assert!(!path.contains(','), "{path} has a comma");
            let options = format!("driver={format},file.driver=file,file.filename={path}");
            program.args(["--image-opts", "-c", command, &options]);
        }
        Target::Export { name, socket } => {
            let url = format!("nbd+unix:///{name}?socket={}", socket.display());
            program.args(["-f", "raw", "-c", command, &url]);
        }
    }
    let output = program.output().expect("qemu-io is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
