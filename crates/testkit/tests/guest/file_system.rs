//! A file system that holds still when the agent is told so, by hand.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use xlsnap_testkit::real::guest::{Count, Guest, GuestOptions, was_frozen};
use xlsnap_testkit::real::{Disk, Scratch, wait_until};

use super::DEADLINE;
use super::hand::Hand;

/// A conversation with the agent.
struct Agent(BufReader<UnixStream>);

impl Agent {
    fn of(guest: &Guest) -> Self {
        let stream = UnixStream::connect(guest.agent()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn call(&mut self, command: &str) -> Value {
        writeln!(self.0.get_mut(), "{}", json!({"execute": command})).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// How far it has counted in its file after `n` steps of the guest.
fn file_count_after(guest: &mut Guest, n: u64) -> u64 {
    let now = guest.console.last_tick().unwrap_or(0);
    guest.wait_tick_beyond(now + n, DEADLINE);
    guest.console.file_counts().pop().unwrap()
}

#[tokio::test]
async fn holds_still_and_goes_on() {
    let scratch = Scratch::new();
    let mut disks: Vec<Disk> = Guest::two_disks(&scratch).into();
    disks.push(Guest::file_system(&scratch));
    let options = GuestOptions {
        count: Count { file_system: true, ..Count::default() },
        agent: true,
        ..GuestOptions::default()
    };
    let mut guest = Guest::start(&scratch, &disks, &options);
    guest.wait_tick_beyond(5, DEADLINE);
    let hand = Hand::on(&guest).await;
    hand.snapshot(&disks, "loose").await;
    let mut agent = Agent::of(&guest);

    assert_eq!(agent.call("guest-fsfreeze-freeze"), json!({"return": 1}));
    let frozen_at = file_count_after(&mut guest, 3);
    hand.snapshot(&disks, "still").await;
    assert_eq!(file_count_after(&mut guest, 10), frozen_at, "it waits, while the rest goes on");
    assert_eq!(agent.call("guest-fsfreeze-status"), json!({"return": "frozen"}));
    assert_eq!(agent.call("guest-fsfreeze-thaw"), json!({"return": 1}));
    wait_until("it counts in its file again", || {
        guest.console.file_counts().pop().filter(|count| *count > frozen_at)
    });
    assert_eq!(guest.disagrees(), None);

    let image = disks[2].file.as_ref().unwrap();
    assert!(was_frozen(&scratch, image, "still") && !was_frozen(&scratch, image, "loose"));
    hand.quit(guest).await;
    super::hand::apply(&disks, "still");
    let mut guest = Guest::start(&scratch, &disks, &options);
    guest.wait_tick_beyond(5, DEADLINE);
    let found = guest.console.found_in_file().unwrap();
    // What goes on when it freezes may be in the file and not said yet.
    assert!((frozen_at..=frozen_at + 1).contains(&found), "{found}, and it was frozen at {frozen_at}");
}
