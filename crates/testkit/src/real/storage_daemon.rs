//! qemu-storage-daemon on images.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::data::{self, Target};
use super::process::Process;
use super::{Data, Disk, LiveDisks, Monitor, Scratch};

/// A running qemu-storage-daemon: each disk is a format node of its name, exported writable over NBD.
#[derive(Debug)]
pub struct StorageDaemon {
    process: Process,
    monitor: Mutex<Monitor>,
    nbd: PathBuf,
    qmp: PathBuf,
}

impl StorageDaemon {
    /// Starts one in `scratch`, at most one at a time.
    pub fn start(scratch: &Scratch, disks: &[Disk]) -> Self {
        Self::start_with(scratch, disks, &[])
    }

    /// The same with further arguments.
    pub fn start_with(scratch: &Scratch, disks: &[Disk], arguments: &[&str]) -> Self {
        let qmp = scratch.path("daemon.qmp");
        let fixture = scratch.path("daemon-fixture.qmp");
        let nbd = scratch.path("daemon.nbd");
        for socket in [&qmp, &fixture, &nbd] {
            // One that a killed daemon left behind would look like the new one's.
            let _ = std::fs::remove_file(socket);
        }
        let mut command = Command::new("qemu-storage-daemon");
        command.current_dir(scratch.dir());
        command.arg("--nbd-server").arg(format!("addr.type=unix,addr.path={}", nbd.display()));
        for disk in disks {
            let node = disk.blockdev().expect("a storage daemon's disk has an image");
            let writable = if disk.read_only { "off" } else { "on" };
            let name = &disk.name;
            command.args(["--blockdev", &node, "--export"]);
            command.arg(format!("type=nbd,id={name},name={name},node-name={name},writable={writable}"));
        }
        command.args(arguments);
        for (id, socket) in [("test", &qmp), ("fixture", &fixture)] {
            let path = socket.display();
            command.arg("--chardev").arg(format!("socket,id={id},path={path},server=on,wait=off"));
            command.arg("--monitor").arg(format!("chardev={id}"));
        }
        let mut process = Process::start(command, scratch.path("daemon.log"));
        let monitor = Mutex::new(process.monitor(&fixture));
        Self { process, monitor, nbd, qmp }
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

    fn export<'a>(&'a self, disk: &'a str) -> Target<'a> {
        Target::Export { name: disk, socket: &self.nbd }
    }
}

impl LiveDisks for StorageDaemon {
    fn write(&self, disk: &str, data: Data) {
        data::write(self.export(disk), data);
    }

    fn holds(&self, disk: &str, data: Data) -> bool {
        data::holds(self.export(disk), data)
    }

    fn byte_at(&self, disk: &str, offset: u64) -> u8 {
        data::byte_at(self.export(disk), offset)
    }
}
