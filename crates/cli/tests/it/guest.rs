//! A Linux guest that xlsnap starts, and that looks at its disks.

use std::time::Duration;

use xlsnap_testkit::real::guest::{Boot, Console, Count, Found};

use crate::life::Startable;

/// For a guest to boot or to count a little, on a machine under load.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn its_disks_are_of_one_instant_after_a_revert() {
    let host = Startable::new("");
    let serial = host.scratch.path("console");
    host.set_start(&Boot::new(Count::default()).start_table(&serial));
    let mut console = Console::from_now(&serial);
    host.start();
    let before = console.wait_tick_beyond(20, DEADLINE);
    host.run(["create", "web", "s1"]).ok();
    let after = console.last_tick().unwrap();
    console.wait_tick_beyond(after + 20, DEADLINE);
    assert_eq!(host.stop(&[])["way"], "powerdown");
    host.run(["revert", "web", "s1"]).ok();

    console.forget();
    host.start();
    console.wait_tick_beyond(20, DEADLINE);
    let [Found { last: Some((1, on_a)), .. }, Found { last: Some((1, on_b)), .. }] = console.found()[..]
    else {
        panic!("{:?}", console.found())
    };
    assert!(on_a == on_b || on_a == on_b + 1, "as after a power cut: {on_a}, {on_b}");
    assert!((before..=after + 2).contains(&on_a), "{on_a}: it was taken between {before} and {after}");
    assert_eq!(host.stop(&[])["way"], "powerdown");
}
