//! The guest on a machine of its own.

use std::path::Path;
use std::time::Duration;

use super::{Boot, Console, Count};
use crate::real::{Attach, Disk, Scratch, Vm, VmOptions};

/// How a guest is started.
#[derive(Debug, Clone, Default)]
pub struct GuestOptions {
    /// How it counts.
    pub count: Count,
    /// How its disks are given.
    pub attach: Attach,
    /// Whether it waits for its memory and goes on from there (`-incoming defer`), instead of booting.
    pub incoming: bool,
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
}

impl Guest {
    /// Two empty qcow2 disks `vda` and `vdb` of 16 MiB.
    pub fn two_disks(scratch: &Scratch) -> [Disk; 2] {
        ["vda", "vdb"].map(|name| Disk::qcow2(name, &scratch.qcow2(&format!("{name}.qcow2"), 16 << 20)))
    }

    /// Starts one in `scratch`, at most one at a time. The console of one after the other is the same file.
    pub fn start(scratch: &Scratch, disks: &[Disk], options: &GuestOptions) -> Self {
        let boot = Boot::new(options.count);
        let serial = scratch.path("console");
        let console = Console::from_now(&serial);
        let mut arguments = boot.arguments(&serial);
        if options.incoming {
            arguments.extend(["-incoming", "defer"].map(str::to_owned));
        }
        arguments.extend(options.arguments.iter().cloned());
        let machine =
            VmOptions { attach: options.attach, running: true, memory_mib: boot.memory_mib, arguments };
        Self { vm: Vm::start(scratch, disks, &machine), console }
    }

    /// The socket of the monitor that is the test's.
    pub fn qmp(&self) -> &Path {
        self.vm.qmp()
    }

    /// Waits until it counts beyond `n`, and gives the count.
    ///
    /// # Panics
    /// When it does not within `deadline`, or says that something disagrees, or QEMU ends.
    pub fn wait_tick_beyond(&mut self, n: u64, deadline: Duration) -> u64 {
        let Self { vm, console } = self;
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
