//! What it takes to start the guest.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::initramfs;

/// How the guest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Which guest it is: a word in every record on its disks, and in its memory.
    pub token: u64,
    /// On how many disks it counts, from the first; at most 8.
    pub disks: u8,
    /// The pause between two steps, in milliseconds.
    pub tick_ms: u32,
    /// A buffer in its memory that it compares too, in MiB. Nothing in it compresses.
    pub fill_mib: u32,
    /// How many of the buffer's pages, of 4 KiB, it changes in each step.
    pub dirty_pages: u32,
    /// Whether the disk after those has an ext4 file system, in which it counts in a file.
    pub file_system: bool,
}

impl Default for Count {
    /// A guest that no other is: two disks, 4 MiB, a step each 20 ms and what the step takes.
    fn default() -> Self {
        let (token, _) = Uuid::new_v4().as_u64_pair();
        Self { token, disks: 2, tick_ms: 20, fill_mib: 4, dirty_pages: 16, file_system: false }
    }
}

/// The arguments that make a QEMU with virtio disks boot the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// For `-kernel`.
    pub kernel: PathBuf,
    /// For `-initrd`.
    pub initrd: PathBuf,
    /// For `-append`.
    pub append: String,
    /// For `-m`, in MiB.
    pub memory_mib: u32,
}

/// What Debian's kernel needs, 96 MiB, and somewhat more.
const KERNEL_MIB: u32 = 124;

/// What the agent and its libraries need.
const AGENT_MIB: u32 = 32;

impl Boot {
    /// A guest that counts like this, on one processor, with its console on the first serial port.
    ///
    /// # Panics
    /// When `ci/setup` has not unpacked the kernel, or its program can't be compiled.
    pub fn new(count: Count) -> Self {
        let Count { token, disks, tick_ms, fill_mib, dirty_pages, file_system } = count;
        // Quiet, and without what only costs time in an emulated processor. A panic ends QEMU with `-no-reboot`.
        let mut append = format!(
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable token={token:x} disks={disks} \
             tick={tick_ms} fill={fill_mib} dirty={dirty_pages}"
        );
        if file_system {
            append.push_str(&format!(" fs=vd{}", char::from(b'a' + disks)));
        }
        Self {
            kernel: initramfs::tools("guest").join("vmlinuz"),
            initrd: initramfs::plain(),
            append,
            memory_mib: KERNEL_MIB + fill_mib,
        }
    }

    /// The same, and QEMU's agent runs in it, on the port that a domain's `agent = true` makes.
    ///
    /// # Panics
    /// As [`Boot::new`], or when a library that the agent links to is not on this machine.
    #[must_use]
    pub fn with_agent(count: Count) -> Self {
        let boot = Self::new(count);
        Self {
            initrd: initramfs::with_agent(),
            append: format!("{} agent=1", boot.append),
            memory_mib: boot.memory_mib + AGENT_MIB,
            ..boot
        }
    }

    /// The lines of a domain's `[start]` in xlsnap's own file, with the console in the file `serial`.
    pub fn start_table(&self, serial: &Path) -> String {
        let Self { kernel, initrd, append, memory_mib } = self;
        let (kernel, initrd, serial) = (kernel.display(), initrd.display(), serial.display());
        format!(
            "accel = \"tcg\"\nmemory = {memory_mib}\nkernel = \"{kernel}\"\ninitrd = \"{initrd}\"\nappend = \"{append}\"\n\
             serial = \"{serial}\"\n"
        )
    }

    /// The same as arguments of QEMU, but for the memory. A console that is there is appended to.
    pub(super) fn arguments(&self, serial: &Path) -> Vec<String> {
        let text = |path: &Path| path.to_str().expect("a fixture's path is text").to_owned();
        let console = format!("file,id=console,append=on,path={}", text(serial));
        let arguments = [
            ["-kernel", &text(&self.kernel)],
            ["-initrd", &text(&self.initrd)],
            ["-append", &self.append],
            ["-chardev", &console],
            ["-serial", "chardev:console"],
        ];
        arguments.concat().into_iter().chain(["-no-reboot"]).map(str::to_owned).collect()
    }
}
