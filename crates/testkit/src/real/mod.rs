//! Fixtures on the real programs: images in a scratch directory, qemu-storage-daemon and qemu-system on them.
//!
//! Everything here blocks and panics: it prepares and examines what a test is about, and a fixture that fails is a
//! failed test. It talks QMP by its own few lines ([`Monitor`]), not by the client under test, over a second monitor,
//! so that the first is free for the test. Processes end when their guard is dropped, by process id.
//!
//! Which QEMU: the programs that come first on `PATH`. `cargo xtask test` runs the tests on real programs with the
//! installed QEMU, and with 7.2 or 11.1 from `tools/qemu-VERSION/usr/bin` of the target directory, where `ci/setup qemu-VERSION` puts it.
//!
//! ```
//! use xlsnap_testkit::real::{Data, Disk, LiveDisks, Scratch, StorageDaemon};
//!
//! let scratch = Scratch::new();
//! let image = scratch.qcow2("a.qcow2", 1 << 20);
//! let daemon = StorageDaemon::start(&scratch, &[Disk::qcow2("vda", &image)]);
//! daemon.write("vda", Data::of(7));
//! assert!(daemon.holds("vda", Data::of(7)));
//! assert!(!daemon.holds("vda", Data::of(8)));
//! ```

mod data;
mod disk;
pub mod guest;
mod loop_device;
mod monitor;
mod process;
mod recorded_disk;
mod scratch;
mod storage_daemon;
mod vm;
mod write_log;

pub use data::{Data, LiveDisks};
pub use disk::Disk;
pub use loop_device::LoopDevice;
pub use monitor::Monitor;
pub use process::{DEADLINE, wait_until};
pub use recorded_disk::{FileSystem, Mounted, RecordedDisk, Recording};
pub use scratch::{
    Scratch, byte_offline, holds_offline, layer_byte, qemu_img, qemu_version, snapshots_in, write_offline,
};
pub use storage_daemon::StorageDaemon;
pub use vm::{Attach, Vm, VmOptions};
pub use write_log::WriteLog;
