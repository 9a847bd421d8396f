//! QEMU's own agent, in a guest whose file system has a program that writes.

use std::time::Duration;

use serde_json::{Map, json};
use xlsnap_guest_agent::{Client, Effect, Kind, Status};
use xlsnap_testkit::real::guest::{Count, Guest, GuestOptions};
use xlsnap_testkit::real::{Disk, Scratch, wait_until};

/// For a guest to boot or to count a little, on a machine under load.
const DEADLINE: Duration = Duration::from_secs(120);

/// For an agent that answers.
const BOUND: Duration = Duration::from_secs(60);

/// For one that does not.
const SHORT: Duration = Duration::from_millis(500);

struct Host {
    _scratch: Scratch,
    guest: Guest,
}

impl Host {
    /// A guest that has not begun to boot.
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut disks: Vec<Disk> = Guest::two_disks(&scratch).into();
        disks.push(Guest::file_system(&scratch));
        let count = Count { file_system: true, ..Count::default() };
        let options = GuestOptions { count, agent: true, paused: true, ..GuestOptions::default() };
        let guest = Guest::start(&scratch, &disks, &options);
        Self { _scratch: scratch, guest }
    }

    fn boot(&mut self) {
        self.guest.vm.monitor().must("cont", json!({}));
        self.guest.wait_tick_beyond(3, DEADLINE);
    }

    fn up() -> Self {
        let mut host = Self::new();
        host.boot();
        host
    }

    async fn client(&self) -> Client {
        Client::connect_unix(self.guest.agent(), BOUND).await.unwrap()
    }

    /// How far the guest has counted in its file, once it has gone on for a while.
    fn file_count(&mut self) -> u64 {
        let now = self.guest.console.last_tick().unwrap_or(0);
        self.guest.wait_tick_beyond(now + 5, DEADLINE);
        self.guest.console.file_counts().pop().unwrap()
    }

    fn holds_still(&mut self) -> bool {
        let before = self.file_count();
        self.file_count() == before
    }

    fn goes_on(&self) {
        let before = self.guest.console.file_counts().pop();
        wait_until("it counts in its file", || {
            (self.guest.console.file_counts().pop() > before).then_some(())
        });
    }
}

#[tokio::test]
async fn writes_stop_and_go_on() {
    let mut host = Host::up();
    let mut client = host.client().await;
    assert_eq!(client.status(BOUND).await.unwrap(), Status::Thawed);
    assert_eq!(client.thaw(BOUND).await.unwrap(), 0, "thawing what is thawed is no error");
    host.goes_on();

    assert_eq!(client.freeze(BOUND).await.unwrap(), 1);
    assert!(host.holds_still());
    assert_eq!(client.status(BOUND).await.unwrap(), Status::Frozen);
    let again = client.freeze(BOUND).await.unwrap_err();
    assert_eq!((again.kind(), again.effect()), (Kind::Frozen, Effect::None));
    // What it may not do while it has them frozen.
    let refused = client.execute_raw("guest-get-time", &Map::new(), BOUND).await.unwrap_err();
    assert_eq!((refused.kind(), refused.effect()), (Kind::Rejected, Effect::None), "{refused}");
    assert!(host.holds_still());

    // The client that froze them is gone.
    drop(client);
    let mut other = host.client().await;
    assert_eq!(other.thaw(BOUND).await.unwrap(), 1);
    host.goes_on();
    assert_eq!(other.thaw(BOUND).await.unwrap(), 0);
    assert_eq!(host.guest.disagrees(), None);
}

#[tokio::test]
async fn a_dropped_freeze_is_thawed_by_the_next_client() {
    let host = Host::up();
    for microseconds in [0, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000] {
        let mut client = host.client().await;
        let patience = Duration::from_micros(microseconds);
        let frozen = tokio::time::timeout(patience, client.freeze(BOUND)).await;
        drop(client);
        let mut other = host.client().await;
        let thawed = other.thaw(BOUND).await.unwrap();
        assert!(thawed <= 1 && (frozen.is_err() || thawed == 1), "{frozen:?}, {thawed}");
        assert_eq!(other.status(BOUND).await.unwrap(), Status::Thawed);
        host.goes_on();
    }
}

#[tokio::test]
async fn an_agent_that_starts_later_freezes_nothing() {
    let mut host = Host::new();
    let error = host.client().await.freeze(SHORT).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Silent, Effect::None), "{error}");
    let error = host.client().await.thaw(SHORT).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Silent, Effect::Unknown), "{error}");
    host.boot();
    let mut client = host.client().await;
    assert_eq!(client.status(BOUND).await.unwrap(), Status::Thawed);
    host.goes_on();
}

#[tokio::test]
async fn one_client_waits_for_the_other() {
    let host = Host::up();
    let mut first = host.client().await;
    first.status(BOUND).await.unwrap();
    let mut second = host.client().await;
    let error = second.freeze(SHORT).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Silent, Effect::None), "{error}");
    // The clients that wait behind it fill the queue.
    let mut waiting = Vec::new();
    let full = loop {
        assert!(waiting.len() < 100, "the queue has an end");
        match Client::connect_unix(host.guest.agent(), SHORT).await {
            Ok(client) => waiting.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!((full.kind(), full.effect()), (Kind::Busy, Effect::None), "{full}");
    drop((first, waiting));
    assert_eq!(second.freeze(BOUND).await.unwrap(), 1);
    assert_eq!(second.thaw(BOUND).await.unwrap(), 1);
}

#[tokio::test]
async fn one_that_stands_still_comes_to_it_later() {
    let mut host = Host::up();
    let mut client = host.client().await;
    assert_eq!(client.freeze(BOUND).await.unwrap(), 1);
    host.guest.vm.monitor().must("stop", json!({}));
    let error = client.thaw(SHORT).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::TimedOut, Effect::Unknown), "{error}");
    host.guest.vm.monitor().must("cont", json!({}));
    // No request follows.
    host.goes_on();
    assert_eq!(client.status(BOUND).await.unwrap(), Status::Thawed);
    assert!(!host.holds_still());
}

#[tokio::test]
async fn long_answers_come_whole() {
    let host = Host::up();
    let mut client = host.client().await;
    let info = client.execute_raw("guest-info", &Map::new(), BOUND).await.unwrap();
    assert!(info["supported_commands"].as_array().unwrap().len() > 20, "{info}");
    let unknown = client.execute_raw("nosuch", &Map::new(), BOUND).await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.effect()), (Kind::Rejected, Effect::None));
}
