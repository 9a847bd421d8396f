//! qemu-system on images.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::data::{self, Target};
use super::process::Process;
use super::{Data, Disk, LiveDisks, Monitor, Scratch};

/// How a machine's disks are given on its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attach {
    /// `-blockdev` with the disk's name as node name, `-device` with it as id.
    #[default]
    Blockdev,
    /// The older `-drive` with the disk's name as id; nodes get names such as `#block165`.
    Drive,
}

/// How a machine is started.
#[derive(Debug, Clone)]
pub struct VmOptions {
    /// How its disks are given.
    pub attach: Attach,
    /// Whether its processor runs (the firmware finds nothing to boot, and idles) or waits as after `-S`.
    pub running: bool,
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl Default for VmOptions {
    fn default() -> Self {
        Self { attach: Attach::default(), running: false, memory_mib: 64, arguments: Vec::new() }
    }
}

/// A running qemu-system-x86_64, emulated; without a guest system unless its arguments give one.
#[derive(Debug)]
pub struct Vm {
    process: Process,
    monitor: Mutex<Monitor>,
    attach: Attach,
    nbd: PathBuf,
    qmp: PathBuf,
}

impl Vm {
    /// Starts one in `scratch`, at most one at a time.
    pub fn start(scratch: &Scratch, disks: &[Disk], options: &VmOptions) -> Self {
        let qmp = scratch.path("vm.qmp");
        let fixture = scratch.path("vm-fixture.qmp");
        let nbd = scratch.path("vm.nbd");
        for socket in [&qmp, &fixture, &nbd] {
            // One that a killed machine left behind would look like the new one's.
            let _ = std::fs::remove_file(socket);
        }
        let mut command = Command::new("qemu-system-x86_64");
        command.current_dir(scratch.dir());
        command.args(["-machine", "q35,accel=tcg", "-nodefaults", "-display", "none"]);
        command.args(["-m", &options.memory_mib.to_string()]).args((!options.running).then_some("-S"));
        for (unit, disk) in disks.iter().enumerate() {
            match options.attach {
                Attach::Blockdev => by_blockdev(&mut command, disk, unit),
                Attach::Drive => by_drive(&mut command, disk, unit),
            }
        }
        command.args(&options.arguments);
        for socket in [&qmp, &fixture] {
            command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        }
        let mut process = Process::start(command, scratch.path("vm.log"));
        let mut monitor = process.monitor(&fixture);
        let address = json!({"type": "unix", "data": {"path": text(&nbd)}});
        monitor.must("nbd-server-start", json!({"addr": address}));
        Self { process, monitor: Mutex::new(monitor), attach: options.attach, nbd, qmp }
    }

    /// The machine of end-to-end tests: disks `vda` and `vdb` of 16 MiB, which hold [`Data::of`]`(1)` and `(2)`, in the
    /// images that are returned.
    pub fn with_two_disks(scratch: &Scratch, options: &VmOptions) -> (Self, [PathBuf; 2]) {
        let size = 16 << 20;
        let images = [scratch.qcow2_with("vda.qcow2", size, 1), scratch.qcow2_with("vdb.qcow2", size, 2)];
        let [vda, vdb] = &images;
        let vm = Self::start(scratch, &[Disk::qcow2("vda", vda), Disk::qcow2("vdb", vdb)], options);
        (vm, images)
    }

    /// The socket of the monitor that is the test's.
    pub fn qmp(&self) -> &PathBuf {
        &self.qmp
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The fixture's own monitor.
    pub fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it in order, so that its images are closed.
    pub fn quit(mut self) {
        self.monitor().send_last("quit");
        self.process.wait();
    }

    /// Migrates it, to nowhere, and waits until it has: its images are inactive, until `cont`.
    pub fn migrate_away(&self) {
        self.monitor().must("migrate", json!({"uri": "exec:cat >/dev/null"}));
        super::wait_until("the machine is migrated", || {
            let status = self.monitor().must("query-status", json!({}));
            (status["status"] == "postmigrate").then_some(())
        });
    }

    /// Runs a command of the monitor for people, and gives what it printed.
    pub fn human(&self, command: &str) -> String {
        let printed = self.monitor().must("human-monitor-command", json!({"command-line": command}));
        printed.as_str().expect("it prints text").to_owned()
    }

    /// Reads through an NBD export that lives for this call only.
    fn exported<T>(&self, disk: &str, read: impl FnOnce(Target<'_>) -> T) -> T {
        let node = self.root_node(disk);
        let export = json!({"type": "nbd", "id": "fixture", "node-name": node, "name": "fixture"});
        self.monitor().must("block-export-add", export);
        let found = read(Target::Export { name: "fixture", socket: &self.nbd });
        self.monitor().must("block-export-del", json!({"id": "fixture", "mode": "hard"}));
        super::wait_until("the export is gone", || {
            let exports = self.monitor().must("query-block-exports", json!({}));
            exports.as_array().is_some_and(Vec::is_empty).then_some(())
        });
        found
    }

    /// The node that the device or drive called `disk` reads and writes.
    fn root_node(&self, disk: &str) -> String {
        let block = self.monitor().must("query-block", json!({}));
        let device = format!("/{disk}/");
        let is_it = |entry: &&Value| {
            entry["device"] == disk || entry["qdev"].as_str().is_some_and(|path| path.contains(&device))
        };
        let entry = block.as_array().expect("a list").iter().find(is_it);
        let entry = entry.unwrap_or_else(|| panic!("the machine has no disk {disk}"));
        entry["inserted"]["node-name"].as_str().expect("it has an image").to_owned()
    }
}

impl LiveDisks for Vm {
    /// Writes through the disk's device, whose permission to write no export could have beside it.
    fn write(&self, disk: &str, data: Data) {
        let target = match self.attach {
            Attach::Blockdev => format!("-d /machine/peripheral/{disk}/virtio-backend"),
            Attach::Drive => disk.to_owned(),
        };
        // A value with spaces stands in quotes there. It prints nothing here unless it fails: what qemu-io says goes
        // to QEMU's own output.
        let printed = self.human(&format!("qemu-io {target} \"{}\"", data.write_command()));
        assert_eq!(printed, "", "writing to {disk}");
        assert!(self.holds(disk, data), "{disk} does not hold what was written to it");
    }

    fn holds(&self, disk: &str, data: Data) -> bool {
        self.exported(disk, |target| data::holds(target, data))
    }

    fn byte_at(&self, disk: &str, offset: u64) -> u8 {
        self.exported(disk, |target| data::byte_at(target, offset))
    }
}

fn by_blockdev(command: &mut Command, disk: &Disk, unit: usize) {
    let name = &disk.name;
    let drive = match disk.blockdev() {
        Some(node) => {
            command.args(["-blockdev", &node]);
            format!(",drive={name}")
        }
        None => String::new(),
    };
    let model = if disk.cdrom { format!("ide-cd,bus=ide.{unit}") } else { "virtio-blk-pci".into() };
    command.arg("-device").arg(format!("{model},id={name}{drive}"));
}

fn by_drive(command: &mut Command, disk: &Disk, unit: usize) {
    let name = &disk.name;
    let mut drive =
        if disk.cdrom { format!("if=none,media=cdrom,id={name}") } else { format!("if=virtio,id={name}") };
    if let Some(file) = &disk.file {
        let read_only = if disk.read_only { "on" } else { "off" };
        drive.push_str(&format!(",format={},readonly={read_only},file={}", disk.format, text(file)));
    }
    command.args(["-drive", &drive]);
    if disk.cdrom {
        // An IDE bus of this machine takes one drive: the sixth disk at most can be a CD-ROM.
        command.arg("-device").arg(format!("ide-cd,bus=ide.{unit},drive={name}"));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a fixture's path is text")
}
