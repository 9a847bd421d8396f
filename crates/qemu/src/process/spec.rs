//! What a domain is started from.

use std::path::PathBuf;

use uuid::Uuid;
use xlsnap_types::model::DomainName;

use crate::DiskSpec;

/// How a domain is started: the `[start]` of its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartSpec {
    /// The whole command line, its disks included, as `{disk:NAME}`. Only what [`argv`](super::argv()) has to add is added.
    Argv(Vec<String>),
    /// The usual, from which a command line is made.
    Machine(Box<MachineSpec>),
}

/// The usual of a machine. Texts are in QEMU's own words, and are handed to QEMU as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// The program: a path, or a name to be found in `PATH`.
    pub program: String,
    /// `-machine`: a type, and properties after commas.
    pub machine: String,
    /// `-accel`, the first that works: `kvm:tcg`.
    pub accel: String,
    /// `-cpu`; QEMU's default without it.
    pub cpu: Option<String>,
    /// The memory, in MiB.
    pub memory: u32,
    /// How many processors.
    pub cpus: u16,
    /// What the disks hang on.
    pub bus: Bus,
    /// `-nic`: `none`, `user`, or more of QEMU's words.
    pub network: String,
    /// `-display`: `none`, `gtk`, `vnc=:1`; any but `none` comes with a VGA card.
    pub display: String,
    /// A kernel to be booted instead of a disk.
    pub kernel: Option<String>,
    /// Its initial RAM disk.
    pub initrd: Option<String>,
    /// Its command line.
    pub append: Option<String>,
    /// A file that the first serial port's output is appended to, absolute.
    pub serial: Option<String>,
    /// Further arguments, at the end.
    pub arguments: Vec<String>,
}

impl Default for MachineSpec {
    fn default() -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            machine: "q35".into(),
            accel: "kvm:tcg".into(),
            cpu: None,
            memory: 512,
            cpus: 1,
            bus: Bus::Virtio,
            network: "none".into(),
            display: "none".into(),
            kernel: None,
            initrd: None,
            append: None,
            serial: None,
            arguments: Vec::new(),
        }
    }
}

/// What a disk hangs on. A removable one is a CD-ROM on SCSI, or on IDE where the disks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// IDE, or AHCI on a `q35`. It has no disks that are read-only.
    Ide,
    /// virtio-scsi.
    Scsi,
}

/// A domain, as far as its process is concerned.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its name.
    pub name: DomainName,
    /// Its uuid, which QEMU is given.
    pub uuid: Uuid,
    /// How it is started; `None` for one that another program starts.
    pub start: Option<StartSpec>,
    /// Its disks.
    pub disks: Vec<DiskSpec>,
    /// The monitor's socket, absolute.
    pub qmp: PathBuf,
    /// The guest agent's socket, absolute: made by a [`StartSpec::Machine`], expected of a [`StartSpec::Argv`].
    pub agent: Option<PathBuf>,
    /// The file that takes what QEMU prints.
    pub log: PathBuf,
    /// The directory of sockets that is made before a start.
    pub sockets: Option<PathBuf>,
}
