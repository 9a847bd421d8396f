//! Guests that boot on what is on their disks.

use serde_json::json;
use xlsnap_testkit::real::guest::{Found, Guest, GuestOptions};
use xlsnap_testkit::real::{Disk, Scratch};

use super::hand::{Hand, apply};
use super::{A_ROUND, DEADLINE};

struct Host {
    scratch: Scratch,
    disks: [Disk; 2],
    options: GuestOptions,
}

impl Host {
    fn new() -> Self {
        let scratch = Scratch::new();
        let disks = Guest::two_disks(&scratch);
        Self { scratch, disks, options: GuestOptions::default() }
    }

    fn boot(&self) -> Guest {
        Guest::start(&self.scratch, &self.disks, &self.options)
    }
}

/// What it found of the last boot on both disks.
fn found(guest: &Guest) -> [Option<(u64, u64)>; 2] {
    let found = guest.console.found();
    let [Found { disk: a, last: on_a }, Found { disk: b, last: on_b }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((a.as_str(), b.as_str()), ("vda", "vdb"));
    [*on_a, *on_b]
}

#[tokio::test]
async fn a_killed_one_leaves_disks_of_one_instant() {
    let host = Host::new();
    let mut guest = host.boot();
    let reached = guest.wait_tick_beyond(A_ROUND, DEADLINE);
    assert_eq!(found(&guest), [None, None]);
    guest.vm.kill();
    let mut guest = host.boot();
    guest.wait_tick_beyond(A_ROUND, DEADLINE);
    let [Some((1, on_a)), Some((1, on_b))] = found(&guest) else { panic!("{:?}", guest.console.found()) };
    assert!(on_a >= reached && (on_a == on_b || on_a == on_b + 1), "{reached}: {on_a}, {on_b}");
}

#[tokio::test]
async fn the_power_button_ends_it() {
    let host = Host::new();
    let mut guest = host.boot();
    guest.wait_tick_beyond(0, DEADLINE);
    guest.vm.monitor().must("system_powerdown", json!({}));
    xlsnap_testkit::real::wait_until("it is off", || (!guest.vm.alive()).then_some(()));
    assert!(guest.console.text().contains("OFF"));
}

#[tokio::test]
async fn disks_that_are_not_of_one_instant_are_noticed_at_boot() {
    let host = Host::new();
    let mut guest = host.boot();
    let before = guest.wait_tick_beyond(A_ROUND, DEADLINE);
    let hand = Hand::on(&guest).await;
    hand.snapshot(&host.disks, "s").await;
    let after = guest.console.last_tick().unwrap();
    guest.wait_tick_beyond(after + A_ROUND, DEADLINE);
    hand.quit(guest).await;

    apply(&host.disks[..1], "s");
    let guest = host.boot();
    let complaint = guest.wait_disagreement(DEADLINE);
    assert!(complaint.starts_with("DISAGREE vdb holds "), "{complaint}");
    drop(guest);

    apply(&host.disks[1..], "s");
    let mut guest = host.boot();
    guest.wait_tick_beyond(A_ROUND, DEADLINE);
    let [Some((1, on_a)), _] = found(&guest) else { panic!("{:?}", guest.console.found()) };
    assert!((before..=after + 2).contains(&on_a), "{on_a}: it was between {before} and {after}");
}
