//! File systems that hold still while the disks are taken.

use std::time::Duration;

use serde_json::json;
use xlsnap_orchestrator::{Agent, Disks, Effect, PortErrorKind};
use xlsnap_qemu::GuestAgent;
use xlsnap_testkit::real::guest::{Count, Guest, GuestOptions, was_frozen};
use xlsnap_testkit::real::{Scratch, wait_until};

use crate::{internal, live, spec};

const BOUND: Duration = Duration::from_secs(60);

/// For one that does not answer.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_snapshot_of_frozen_file_systems_needs_no_recovery() {
    let scratch = Scratch::new();
    let disks = [Guest::two_disks(&scratch).as_slice(), &[Guest::file_system(&scratch)]].concat();
    let count = Count { file_system: true, ..Count::default() };
    let options = GuestOptions { count, agent: true, paused: true, ..GuestOptions::default() };
    let mut guest = Guest::start(&scratch, &disks, &options);
    let image = disks[2].file.clone().unwrap();
    let port = live(guest.qmp(), vec![spec("vdc", &image)]).await;
    let agent = GuestAgent::new(guest.agent());

    let silent = agent.freeze(SHORT).await.unwrap_err();
    assert_eq!((silent.kind, silent.effect), (PortErrorKind::Unreachable, Effect::None), "{silent}");
    guest.vm.monitor().must("cont", json!({}));
    guest.wait_tick_beyond(3, BOUND);
    port.snapshot(&[internal("vdc", "loose")]).await.unwrap();
    assert_eq!(agent.freeze(BOUND).await.unwrap(), 1);
    port.snapshot(&[internal("vdc", "still")]).await.unwrap();
    let again = agent.freeze(BOUND).await.unwrap_err();
    assert_eq!((again.kind, again.effect), (PortErrorKind::Busy, Effect::None), "{again}");
    // As after a crash: another, that knows nothing of the first.
    assert_eq!(GuestAgent::new(guest.agent()).thaw(BOUND).await.unwrap(), 1);
    assert_eq!(agent.thaw(BOUND).await.unwrap(), 0);
    let before = guest.console.file_counts().pop();
    wait_until("it counts on in its file", || (guest.console.file_counts().pop() > before).then_some(()));
    assert!(was_frozen(&scratch, &image, "still") && !was_frozen(&scratch, &image, "loose"));

    guest.vm.monitor().must("stop", json!({}));
    let silent = agent.thaw(SHORT).await.unwrap_err();
    assert_eq!((silent.kind, silent.effect), (PortErrorKind::Unreachable, Effect::Unknown), "{silent}");
    guest.vm.kill();
    let gone = agent.thaw(SHORT).await.unwrap_err();
    assert_eq!((gone.kind, gone.effect), (PortErrorKind::Unreachable, Effect::None), "{gone}");
}
