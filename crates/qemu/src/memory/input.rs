//! QEMU's standard input, which a background snapshot of the memory that ends early closes.
//!
//! One that fails, or is cancelled, before QEMU tracks the guest's writes has its userfaultfd closed though there is none yet: the number
//! is 0 (10.0 and 11.1, measured; 7.2 does not). What QEMU opens next has that number: the connection of its monitor's next client, what a
//! device is woken by, or an image. The next snapshot that ends early would close that under the guest, and what is opened then would get
//! its writes.
//!
//! So none is begun but where the descriptor 0 is one that QEMU can do without, and one that was closed is filled as soon as it is seen.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{Dev, major, minor};
use tokio::time::sleep;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::Getfd;
use xlsnap_qmp_transport::{Qmp, QmpExt};

use super::migration::SOON;
use crate::error;

/// The QEMU whose guest's memory is saved.
#[derive(Clone, Copy)]
pub(crate) struct Qemu<'a> {
    /// Its monitor.
    pub(crate) qmp: &'a dyn Qmp,
    /// Its process, where the kernel tells.
    pub(crate) process: Option<u32>,
}

/// Why the memory of the QEMU `process` is not saved in the background, as a clause, if its descriptor 0 is something that must not be closed.
/// What cannot be looked at is none of that.
pub(super) fn at_stake(process: u32) -> Option<String> {
    let what = fs::read_link(descriptor(process)).ok()?;
    let metadata = fs::metadata(descriptor(process)).ok()?;
    let kind = metadata.file_type();
    let can_be_closed = kind.is_fifo() || (kind.is_char_device() && is_idle(metadata.rdev()));
    (!can_be_closed).then(|| {
        format!(
            "if it were cut short early, QEMU would close its standard input (a fault of QEMU's), which is {} by now; stop the domain and start it, \
             with </dev/null if by hand, to save it so again",
            what.display()
        )
    })
}

/// Gives QEMU a standard input, if it has none. `token` is the one of the save, which names no other.
pub(super) async fn fill(qmp: &dyn Qmp, process: u32, token: &str) -> Result<(), PortError> {
    if !is_closed(process) {
        return Ok(());
    }
    let null = fs::File::open(NULL).map_err(|e| {
        PortError::new(PortErrorKind::Failed, Effect::None, format!("{NULL} cannot be opened")).with_source(e)
    })?;
    // Under a name of its own: QEMU closes what had the name before, which may have been the number 0 as well.
    let command = Getfd { fdname: format!("xlsnap-input-{token}") };
    let failed = |e| error::of_qmp("QEMU was not given a standard input".into(), e);
    qmp.execute_with(command, null.into()).await.map_err(failed).map(drop)
}

/// [`fill`] when a snapshot has just ended: it is told to have failed a moment before the descriptor is closed.
pub(super) async fn fill_soon(qmp: &dyn Qmp, process: u32, token: &str) -> Result<(), PortError> {
    const LOOKS: usize = 10;
    for _ in 0..LOOKS {
        if is_closed(process) {
            break;
        }
        sleep(SOON).await;
    }
    fill(qmp, process, token).await
}

const NULL: &str = "/dev/null";

/// In proc(5).
fn descriptor(process: u32) -> String {
    format!("/proc/{process}/fd/0")
}

/// Whether it has no descriptor 0, as far as that can be looked at.
pub(super) fn is_closed(process: u32) -> bool {
    let others = fs::read_dir(format!("/proc/{process}/fd"));
    others.is_ok_and(|mut found| found.next().is_some())
        && fs::symlink_metadata(descriptor(process)).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// Whether the device is `/dev/null` or a terminal (the kernel's admin-guide/devices.txt).
fn is_idle(device: Dev) -> bool {
    const MEMORY: u32 = 1;
    const NULL: u32 = 3;
    const TERMINALS: [u32; 2] = [4, 5];
    const PSEUDO_TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;
    let major = major(device);
    (major == MEMORY && minor(device) == NULL)
        || TERMINALS.contains(&major)
        || PSEUDO_TERMINALS.contains(&major)
}
