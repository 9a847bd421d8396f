//! The guest on a machine of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Boot, Console, Count, file_system};
use crate::real::{Attach, Disk, Scratch, Vm, VmOptions};

/// How a guest is started.
#[derive(Debug, Clone, Default)]
pub struct GuestOptions {
    /// How it counts.
    pub count: Count,
    /// How its disks are given.
    pub attach: Attach,
    /// Whether it waits for `cont` (`-S`) before it boots.
    pub paused: bool,
    /// Whether it waits for its memory and goes on from there (`-incoming defer`), instead of booting.
    pub incoming: bool,
    /// Whether QEMU's agent runs in it: [`Guest::agent`].
    pub agent: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A running guest. It ends when dropped.
#[derive(Debug)]
pub struct Guest {
    /// The machine that it runs on: its monitors, its end.
    pub vm: Vm,
    /// What it says, from this start on.
    pub console: Console,
    agent: PathBuf,
}

impl Guest {
    /// Two empty qcow2 disks `vda` and `vdb` of 16 MiB.
    pub fn two_disks(scratch: &Scratch) -> [Disk; 2] {
        ["vda", "vdb"].map(|name| Disk::qcow2(name, &scratch.qcow2(&format!("{name}.qcow2"), 16 << 20)))
    }

    /// A third, `vdc`, with an ext4 file system for [`Count::file_system`].
    pub fn file_system(scratch: &Scratch) -> Disk {
        Disk::qcow2("vdc", &file_system::make(scratch, "vdc.qcow2"))
    }

    /// Starts one in `scratch`, at most one at a time. The console of one after the other is the same file.
    pub fn start(scratch: &Scratch, disks: &[Disk], options: &GuestOptions) -> Self {
        let boot = if options.agent { Boot::with_agent(options.count) } else { Boot::new(options.count) };
        let serial = scratch.path("console");
        let console = Console::from_now(&serial);
        let mut arguments = boot.arguments(&serial);
        if options.incoming {
            arguments.extend(["-incoming", "defer"].map(str::to_owned));
        }
        let agent = scratch.path("agent.socket");
        if options.agent {
            arguments.extend(agent_arguments(&agent));
        }
        arguments.extend(options.arguments.iter().cloned());
        let machine = VmOptions {
            attach: options.attach,
            running: !options.paused,
            memory_mib: boot.memory_mib,
            arguments,
        };
        Self { vm: Vm::start(scratch, disks, &machine), console, agent }
    }

    /// The socket of the monitor that is the test's.
    pub fn qmp(&self) -> &Path {
        self.vm.qmp()
    }

    /// The socket of its agent.
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// Waits until it counts beyond `n`, and gives the count.
    ///
    /// # Panics
    /// When it does not within `deadline`, or says that something disagrees, or QEMU ends.
    pub fn wait_tick_beyond(&mut self, n: u64, deadline: Duration) -> u64 {
        let Self { vm, console, .. } = self;
        console.wait_tick_while(n, deadline, || {
            assert!(vm.alive(), "QEMU ended; the guest said:\n{}", console.text())
        })
    }

    /// Waits until it says that disk and memory disagree, and gives what it says.
    ///
    /// # Panics
    /// When it does not within `deadline`.
    pub fn wait_disagreement(&self, deadline: Duration) -> String {
        self.console.wait_disagreement(deadline)
    }

    /// The counts that it said since this start.
    pub fn ticks(&self) -> Vec<u64> {
        self.console.ticks()
    }

    /// What disagrees, if it says so.
    pub fn disagrees(&self) -> Option<String> {
        self.console.disagreement()
    }
}

fn agent_arguments(socket: &Path) -> Vec<String> {
    // One that a killed machine left behind would look like the new one's.
    let _ = std::fs::remove_file(socket);
    let chardev = format!("socket,id=agent,server=on,wait=off,path={}", socket.display());
    let arguments = [
        ["-device", "virtio-serial,id=ports"],
        ["-chardev", &chardev],
        ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"],
    ];
    arguments.concat().into_iter().map(str::to_owned).collect()
}
