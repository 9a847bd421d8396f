//! A running QEMU on two disks with data, and making images.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::monitor::Monitor;
use super::process::run;
use crate::Failure;

/// How long a program may take to get ready, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when dropped.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> Result<Self, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(|e| Failure(format!("{program}: cannot be run: {e}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tries until it works, and fails as the last try did.
pub(super) fn until<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            done => return done,
        }
    }
}

/// Makes a qcow2 image of 64 MiB, of which 8 MiB hold data.
pub(super) fn image(file: &Path) -> Result<(), Failure> {
    image_of(file, "64M")
}

/// The same of another size.
pub(super) fn image_of(file: &Path, size: &str) -> Result<(), Failure> {
    run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(file).arg(size))?;
    run(Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 1 0 8M"]).arg(file))?;
    Ok(())
}

/// An emulated machine whose firmware finds nothing to boot, with disks `vda` and `vdb`, whose nodes are named so too.
#[derive(Debug)]
pub(super) struct Machine {
    _process: Running,
    /// A monitor for the command.
    pub(super) qmp: PathBuf,
    /// Another, open, to do the same without the command.
    pub(super) bare: Monitor,
}

impl Machine {
    pub(super) fn start(scratch: &Path) -> Result<Self, Failure> {
        Self::of(scratch, 64, "64M", None)
    }

    /// With disks of this size.
    pub(super) fn with_disks(scratch: &Path, size: &str) -> Result<Self, Failure> {
        Self::of(scratch, 64, size, None)
    }

    /// With so much memory, of which a quarter holds what does not compress: as little as a guest that has just started.
    pub(super) fn with_memory(scratch: &Path, mebibytes: u32) -> Result<Self, Failure> {
        let contents = scratch.join("memory");
        write_memory(&contents, mebibytes / 4)
            .map_err(|e| Failure(format!("{}: {e}", contents.display())))?;
        Self::of(scratch, mebibytes, "64M", Some(&contents))
    }

    fn of(scratch: &Path, mebibytes: u32, size: &str, contents: Option<&Path>) -> Result<Self, Failure> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35,accel=tcg", "-nodefaults", "-display", "none"]);
        command.args(["-m", &mebibytes.to_string()]);
        if let Some(contents) = contents {
            command.args(["-device", &loader(contents)]);
        }
        command.args(["-uuid", "7b1d8d0e-3a52-4a0c-9c39-5a3e5f0f6a11"]);
        for disk in ["vda", "vdb"] {
            let file = scratch.join(disk);
            image_of(&file, size)?;
            let node =
                format!("driver=qcow2,node-name={disk},file.driver=file,file.filename={}", file.display());
            command.args(["-blockdev", &node, "-device", &format!("virtio-blk-pci,id={disk},drive={disk}")]);
        }
        let [qmp, bare] = ["qmp", "bare"].map(|name| scratch.join(name));
        for socket in [&qmp, &bare] {
            command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        }
        let process = Running::start(&mut command)?;
        let bare = until(|| Monitor::connect(&bare))?;
        Ok(Self { _process: process, qmp, bare })
    }
}

/// The option that puts a file into memory, above what the firmware uses.
pub(super) fn loader(contents: &Path) -> String {
    format!("loader,file={},addr=0x2000000,force-raw=on", contents.display())
}

/// What a machine has in its memory. Empty memory is next to nothing to save, and no guest has it.
pub(super) fn write_memory(file: &Path, mebibytes: u32) -> io::Result<()> {
    // Not at once: what this process has in memory counts as its children's peak.
    let mut file = io::BufWriter::new(File::create(file)?);
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..(u64::from(mebibytes) << 20) / 8 {
        // Xorshift: no page is like another, nor empty.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        file.write_all(&word.to_le_bytes())?;
    }
    file.flush()
}
