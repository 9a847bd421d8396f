//! Snapshots with memory.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use xlsnap_testkit::real::guest::{Guest, GuestOptions};
use xlsnap_testkit::real::{Disk, Scratch};

use super::hand::{Hand, apply, revive};
use super::{A_ROUND, DEADLINE};

/// A guest with a snapshot `s` of its disks and its memory, and how far it had counted then.
struct Taken {
    scratch: Scratch,
    disks: [Disk; 2],
    options: GuestOptions,
    guest: Guest,
    memory: PathBuf,
    at: u64,
}

impl Taken {
    /// Made in the right order, with the least pause.
    async fn rightly() -> Self {
        let mut this = Self::not_yet();
        let hand = Hand::on(&this.guest).await;
        hand.call("stop", json!({})).await;
        this.at = this.guest.console.last_tick().unwrap();
        hand.snapshot(&this.disks, "s").await;
        hand.save_in_the_background(&this.memory).await;
        this
    }

    /// A guest that counts, and no snapshot.
    fn not_yet() -> Self {
        let scratch = Scratch::new();
        let disks = Guest::two_disks(&scratch);
        let options = GuestOptions::default();
        let mut guest = Guest::start(&scratch, &disks, &options);
        let at = guest.wait_tick_beyond(A_ROUND, DEADLINE);
        Self { memory: scratch.path("s.memory"), scratch, disks, options, guest, at }
    }

    /// Lets it count on from where it is, ends it, makes `disks` of its disks what they were, and starts it with its memory.
    async fn reverted(self, disks: &[usize]) -> (Scratch, Guest, u64) {
        let Self { scratch, disks: all, options, mut guest, memory, at } = self;
        let now = guest.console.last_tick().unwrap();
        guest.wait_tick_beyond(now.max(at) + A_ROUND, DEADLINE);
        Hand::on(&guest).await.quit(guest).await;
        for disk in disks {
            apply(&all[*disk..=*disk], "s");
        }
        let guest = revive(&scratch, &all, &options, &memory).await;
        (scratch, guest, at)
    }
}

#[tokio::test]
async fn of_one_instant_goes_on_where_it_was() {
    let (_scratch, mut guest, at) = Taken::rightly().await.reverted(&[0, 1]).await;
    guest.wait_tick_beyond(at + 2 * A_ROUND, DEADLINE);
    let first = guest.ticks()[0];
    // What it said last may not have been put out yet, and the first line may be the end of one.
    assert!((at + 1..=at + 3).contains(&first), "at {at}, and then {first}");
    assert_eq!(guest.console.runs().len(), 1);
    let whole = guest.console.text();
    assert!(!whole.contains("BOOT"), "{whole}");
    // Its next memory is as good.
    assert_eq!(guest.disagrees(), None);
}

#[tokio::test]
async fn a_disk_that_was_not_reverted_is_noticed() {
    for reverted in [0, 1] {
        let (_scratch, guest, at) = Taken::rightly().await.reverted(&[reverted]).await;
        let complaint = guest.wait_disagreement(DEADLINE);
        let other = ["vdb", "vda"][reverted];
        assert!(complaint.starts_with(&format!("DISAGREE {other} ")), "{complaint}");
        assert!(guest.console.last_tick().is_none_or(|tick| tick <= at + 3), "it counts no further");
    }
}

#[tokio::test]
async fn memory_of_another_instant_is_noticed() {
    let mut taken = Taken::not_yet();
    let hand = Hand::on(&taken.guest).await;
    hand.snapshot(&taken.disks, "s").await;
    // The guest counts on between the disks' snapshot and the memory's.
    taken.guest.wait_tick_beyond(taken.guest.console.last_tick().unwrap() + 3, DEADLINE);
    hand.call("stop", json!({})).await;
    hand.save(&taken.memory).await;
    hand.call("cont", json!({})).await;
    drop(hand);
    let (_scratch, guest, _) = taken.reverted(&[0, 1]).await;
    let complaint = guest.wait_disagreement(DEADLINE);
    assert!(complaint.starts_with("DISAGREE vda holds "), "{complaint}");
}

/// splitmix64, as the guest's buffer is filled by it.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[tokio::test]
async fn a_page_of_memory_that_is_lost_is_noticed() {
    let taken = Taken::rightly().await;
    let mut memory = fs::read(&taken.memory).unwrap();
    // A word of its page 700 that never changes.
    let word = mix(!taken.options.count.token ^ 700).wrapping_mul(200 + 1).to_le_bytes();
    let places: Vec<usize> =
        memory.windows(8).enumerate().filter(|(_, window)| *window == word).map(|(at, _)| at).collect();
    let [place] = places[..] else { panic!("it is {} times in the memory", places.len()) };
    memory[place] ^= 1;
    fs::write(&taken.memory, memory).unwrap();
    let (_scratch, guest, _) = taken.reverted(&[0, 1]).await;
    let complaint = guest.wait_disagreement(DEADLINE);
    assert!(complaint.starts_with("DISAGREE page 700 of the buffer "), "{complaint}");
}
