//! A disk whose writes and flushes are recorded, so that the power can be cut at any time of what was done.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::process::wait_until;
use super::write_log::{self, WriteLog};
use super::{LoopDevice, Scratch, StorageDaemon};

/// XFS takes no less than 300 MiB.
const SIZE: u64 = 512 << 20;
/// How long a file system may still be there after it was unmounted.
const LET_GO: Duration = Duration::from_secs(10);
/// The file of the log is made sparse: the driver grows none.
const LOG: u64 = 64 << 30;

/// The file systems that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// Debian's default: any fsync brings all that was done to names before it to the disk.
    Ext4,
    /// As ext4 of names; it delays the allocation of data.
    Xfs,
    /// An fsync brings little more than what it was asked for.
    Btrfs,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// As mount(8) calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Nothing is discarded, and nothing is left for later.
    fn make(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["-q", "-N", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
            Self::Xfs => &["-q", "-K"],
            Self::Btrfs => &["-q", "-K", "-m", "single"],
        }
    }

    /// What flushes by itself after a time would hide that nothing else did.
    fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Btrfs => "commit=300",
            Self::Xfs => "defaults",
        }
    }
}

/// A file system on a disk whose writes and flushes are recorded.
///
/// A storage daemon notes them (`blklogwrites`) and shows the disk as a file (FUSE); a loop device is on that.
#[derive(Debug)]
pub struct RecordedDisk {
    // In this order they go.
    mounted: Option<Mounted>,
    daemon: Option<StorageDaemon>,
    scratch: Scratch,
    system: FileSystem,
}

/// A file system that is mounted; no longer when this is dropped.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    _device: LoopDevice,
}

/// What was recorded of a disk.
#[derive(Debug)]
pub struct Recording {
    log: WriteLog,
    scratch: Scratch,
    system: FileSystem,
    /// Has the number of the device on which it was recorded: after a reboot a disk may have another one.
    _number: Option<LoopDevice>,
}

impl RecordedDisk {
    /// A new disk with such a file system, which is mounted.
    ///
    /// # Errors
    /// What this machine lacks for it, and how to get that.
    pub fn start(system: FileSystem) -> Result<Self, String> {
        let scratch = Scratch::new();
        lacks(&scratch, system)?;
        let disk = scratch.raw("disk", SIZE);
        let log = scratch.raw("log", LOG);
        let shown = scratch.raw("shown", 0);
        let node = |name: &str, file: &Path| {
            // What is not to survive this machine needs no flush of its own.
            format!("driver=file,node-name={name},filename={},cache.no-flush=on", file.display())
        };
        let arguments = [
            "--blockdev",
            &node("disk", &disk),
            "--blockdev",
            &node("log", &log),
            "--blockdev",
            "driver=blklogwrites,node-name=recorded,file=disk,log=log,log-super-update-interval=1",
            "--export",
            &format!("type=fuse,id=shown,node-name=recorded,writable=on,mountpoint={}", shown.display()),
        ];
        let daemon = StorageDaemon::start_with(&scratch, &[], &arguments);
        let mut this = Self { mounted: None, daemon: Some(daemon), scratch, system };
        wait_until("the disk is shown", || (fs::metadata(&shown).ok()?.len() == SIZE).then_some(()));
        let device = LoopDevice::of(&shown).ok_or("no loop device takes a file of FUSE")?;
        must(Command::new(program(system)).args(system.make()).arg(device.path()));
        let at = this.scratch.path("m");
        fs::create_dir(&at).expect("the scratch directory takes a new one");
        this.mounted = Some(Mounted::of(device, system, at));
        Ok(this)
    }

    /// Where it is mounted; a [`Recording`] is mounted there too.
    pub fn dir(&self) -> PathBuf {
        self.scratch.path("m")
    }

    /// How many entries the log has: all that was written and flushed until now.
    pub fn count(&self) -> usize {
        write_log::count(&self.scratch.path("log"))
    }

    /// Brings all to the disk.
    pub fn sync(&self) {
        must(Command::new("sync").arg("-f").arg(self.dir()));
    }

    /// Unmounts it, and ends the recording. No process may have a file of it open.
    pub fn end(mut self) -> Recording {
        self.mounted.take().expect("it is mounted until here").unmount();
        self.daemon.take().expect("it runs until here").quit();
        let log = WriteLog::read(&self.scratch.path("log"));
        let scratch = std::mem::replace(&mut self.scratch, Scratch::new());
        let number = LoopDevice::of(&scratch.path("loop"));
        Recording { log, scratch, system: self.system, _number: number }
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        self.mounted = None;
        if self.daemon.take().is_some() {
            // It was killed, and what it showed stays mounted without it.
            let _ = quiet(Command::new("umount").arg("-l").arg(self.scratch.path("shown")));
        }
    }
}

impl Recording {
    /// What was written.
    pub fn log(&self) -> &WriteLog {
        &self.log
    }

    /// The disk as it may be when the power is cut after so many entries, in a file that stands for it until the next one.
    /// [`WriteLog`]'s replay says what `keeps` is.
    pub fn cut(&self, entries: usize, keeps: &mut dyn FnMut(usize, usize) -> bool) -> PathBuf {
        let disk = self.scratch.path("cut");
        let _ = fs::remove_file(&disk);
        self.scratch.raw("cut", SIZE);
        self.log.replay(entries, &disk, keeps);
        disk
    }

    /// Mounts such a disk, through a new device that has none of its pages, where it was when it was recorded.
    pub fn mount(&self, disk: &Path) -> Mounted {
        let device = LoopDevice::of(disk).expect("there was a loop device before");
        Mounted::of(device, self.system, self.scratch.path("m"))
    }
}

impl Mounted {
    fn of(device: LoopDevice, system: FileSystem, at: PathBuf) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", system.name(), "-o", system.options(), device.path()]);
        mount.arg(&at);
        // That of the cut before is let go of a moment after it was unmounted, and XFS mounts none that it has.
        let begun = Instant::now();
        loop {
            let output = quiet(&mut mount);
            if output.status.success() {
                return Self { at, _device: device };
            }
            assert!(begun.elapsed() < LET_GO, "{mount:?}: {}", String::from_utf8_lossy(&output.stderr));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Unmounts it, once no process has it open.
    pub fn unmount(self) {
        let umount = || quiet(Command::new("umount").arg(&self.at)).status.success();
        wait_until("no process has the file system open", || umount().then_some(()));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Of a test that failed a process may have it open.
        let _ = quiet(Command::new("umount").arg("-l").arg(&self.at));
    }
}

/// What is missing for a disk to be recorded.
fn lacks(scratch: &Scratch, system: FileSystem) -> Result<(), String> {
    let name = system.name();
    // A process's directory is its user's.
    if fs::metadata("/proc/self").is_ok_and(|found| found.uid() != 0) {
        return Err("a file system is mounted: run this as root".to_owned());
    }
    if LoopDevice::of(&scratch.raw("loop", 1 << 20)).is_none() {
        return Err("there is no loop device: `modprobe loop`, or give them to the container".to_owned());
    }
    if fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return Err("/dev/fuse cannot be opened: `modprobe fuse`, or give it to the container".to_owned());
    }
    let help = quiet(Command::new("qemu-storage-daemon").arg("--help"));
    if !String::from_utf8_lossy(&help.stdout).contains("type=]fuse") {
        return Err("qemu-storage-daemon was built without FUSE; Debian's has it".to_owned());
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.split_whitespace().any(|known| known == name) {
        return Err(format!("the kernel does not know {name}: `modprobe {name}`"));
    }
    if !Path::new(&program(system)).exists() {
        return Err(format!("there is no {}: run ci/setup", program(system)));
    }
    Ok(())
}

fn program(system: FileSystem) -> String {
    format!("/sbin/mkfs.{}", system.name())
}

fn quiet(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{:?} is installed: {e}", command.get_program()))
}

fn must(command: &mut Command) {
    let output = quiet(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
