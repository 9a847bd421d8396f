//! A Linux guest that notices when its disks and its memory are not of one instant.
//!
//! Debian's kernel for virtual machines (unpacked by `ci/setup`) with an initramfs of one program, `guest/init.c` of this
//! package, which says what it does. In short: it counts, keeps the count in memory and writes it to every disk, and compares
//! them before each step. Its console is a file with a line `tick N` for each step; when something disagrees, it stops counting
//! and says `DISAGREE` and what. It is up within about 2 s without KVM.
//!
//! With [`Count::file_system`] it counts in a file too, and with [`GuestOptions::agent`] QEMU's own agent runs in it, Debian's
//! build, so that a test can make the file system hold still. The agent never runs on the machine itself.
//!
//! [`Guest`] runs it on a [`Vm`](super::Vm). [`Boot`] is what another program needs to start it, xlsnap itself among them, and
//! [`Console`] reads what it says then.
//!
//! ```no_run
//! use std::time::Duration;
//! use xlsnap_testkit::real::Scratch;
//! use xlsnap_testkit::real::guest::{Guest, GuestOptions};
//!
//! let scratch = Scratch::new();
//! let disks = Guest::two_disks(&scratch);
//! let mut guest = Guest::start(&scratch, &disks, &GuestOptions::default());
//! let reached = guest.wait_tick_beyond(10, Duration::from_secs(30));
//! assert!(reached > 10);
//! ```

mod boot;
mod console;
mod file_system;
mod initramfs;
mod machine;

pub use boot::{Boot, Count};
pub use console::{Console, Found};
pub use file_system::was_frozen;
pub use machine::{Guest, GuestOptions};
