//! Faults of QEMU's that rule a way to save memory out.

use xlsnap_orchestrator::PortError;
use xlsnap_qmp_transport::commands::QueryKvm;
use xlsnap_qmp_transport::{Qmp, QmpExt};
use xlsnap_types::model::MemoryWay;

use super::input;
use crate::error;

/// Why its own faults rule a way out for the QEMU `process`, as a clause. Nothing but its version tells of most of them.
///
/// * Before 8.1, a background snapshot that fails or is cancelled goes on to track the guest's writes and answers none: the guest or
///   QEMU itself, when it writes next, waits for ever (measured on 7.2). A crash of ours would do that.
/// * In 7.2, of what an emulated guest writes while its memory is sent some is lost, and the saved memory is spoilt (measured;
///   10.0 is good, and KVM tracks writes otherwise).
/// * A background snapshot that ends early closes QEMU's standard input: see [`input`].
pub(super) async fn fault(
    qmp: &dyn Qmp,
    process: Option<u32>,
    way: MemoryWay,
) -> Result<Option<String>, PortError> {
    const BROKEN_OFF: (u32, u32, u32) = (8, 1, 0);
    const LOSES_NONE: (u32, u32, u32) = (10, 0, 0);
    Ok(match way {
        MemoryWay::Background if qmp.version() < BROKEN_OFF => {
            Some("in this QEMU one that is broken off holds the guest up for good".to_owned())
        }
        MemoryWay::Switchover if qmp.version() < LOSES_NONE && !has_kvm(qmp).await? => {
            Some("this QEMU loses some of what an emulated guest writes meanwhile".to_owned())
        }
        MemoryWay::Background => process.and_then(input::at_stake),
        _ => None,
    })
}

async fn has_kvm(qmp: &dyn Qmp) -> Result<bool, PortError> {
    let unknown = |e| error::of_query("QEMU could not be asked whether it uses KVM".into(), e);
    Ok(qmp.execute(QueryKvm).await.map_err(unknown)?.enabled)
}
