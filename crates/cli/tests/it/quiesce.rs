//! File systems frozen through QEMU's own agent, in a Linux guest.

use xlsnap_testkit::real::guest::{Boot, Console, Count, Guest, was_frozen};
use xlsnap_testkit::real::wait_until;

use crate::life::Startable;
use crate::memory::DEADLINE;

#[test]
fn the_file_systems_are_frozen_and_let_go() {
    let host = Startable::new("");
    let serial = host.scratch.path("console");
    let count = Count { file_system: true, ..Count::default() };
    let table = Boot::with_agent(count).start_table(&serial);
    let image = Guest::file_system(&host.scratch).file.unwrap();
    host.add_disk("vdc", &image);
    host.set_start(&format!("{table}agent = true\n"));
    let console = Console::from_now(&serial);
    host.start();
    console.wait_tick_beyond(5, DEADLINE);
    host.run(["create", "web", "loose"]).ok();
    let answer = host.json(&["create", "web", "s", "--quiesce=60"]);
    assert_eq!(answer["snapshot"]["consistency"], "file-system", "{answer}");
    assert_eq!(answer["warnings"], serde_json::json!([]), "{answer}");
    assert!(was_frozen(&host.scratch, &image, "s"));
    assert!(!was_frozen(&host.scratch, &image, "loose"), "it would have been anyway");
    // It was let go: it counts on.
    let counted = console.file_counts().pop().unwrap();
    wait_until("it counts in its file again", || {
        console.file_counts().pop().filter(|count| *count > counted)
    });
    console.wait_tick_beyond(console.last_tick().unwrap() + 5, DEADLINE);
    let plan = host.json(&["create", "web", "t", "--quiesce", "--dry-run"]);
    assert!(plan["stages"].to_string().contains("freeze"), "{plan}");
}

/// No agent in the guest answers: the command ends in time and says so, nothing is made, and the guest goes on.
#[test]
fn an_agent_that_never_answers_is_waited_for_no_longer_than_allowed() {
    let host = Startable::new("");
    let serial = host.scratch.path("console");
    let table = Boot::new(Count::default()).start_table(&serial);
    host.set_start(&format!("{table}agent = true\n"));
    let console = Console::from_now(&serial);
    host.start();
    console.wait_tick_beyond(5, DEADLINE);
    let ran = host.run(["create", "web", "s", "--quiesce=0.5"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    ran.tells("file systems").tells("nothing was changed");
    assert!(host.names("web").is_empty());
    console.wait_tick_beyond(console.last_tick().unwrap() + 5, DEADLINE);
    host.run(["create", "web", "s"]).ok();
}
