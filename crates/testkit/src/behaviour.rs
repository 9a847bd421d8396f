//! What every backend must do, as a suite that runs on the fake backend and on real QEMU alike.
//!
//! To plug in: implement [`Backend`] for a domain of yours, write a function that makes one with the disks that a
//! case asks for, and name it in the macro, in a file under `tests/`:
//!
//! ```
//! use xlsnap_testkit::behaviour::{FakeDomain, TestDisk};
//!
//! async fn make(disks: &[TestDisk]) -> FakeDomain {
//!     FakeDomain::new(disks, true)
//! }
//!
//! xlsnap_testkit::behaviour_suite!(make);
//! # fn main() {}
//! ```
//!
//! Each case becomes a `#[tokio::test]` (so the crate needs tokio's `macros` and `rt`), gets a backend of its own, and asserts
//! states: what a guest reads, what stands in the images, what is stored. A capability that the backend lacks is no reason to
//! skip: the case then asserts that the operation is refused and changes nothing.
//!
//! A backend that runs a process keeps two sets of ports, one while it runs and one while it does not, and
//! [`Backend::ports`] gives the one that fits. [`crate::fake::MemStore`] will do as the store of any backend.

mod backend;
mod cases;
mod fake;
mod interrupted;

pub use backend::{Backend, Capabilities, DiskKind, TestDisk};
pub use cases::*;
pub use fake::FakeDomain;
pub use interrupted::Interrupted;

/// Makes a `#[tokio::test]` of every case; see [`crate::behaviour`]. The argument names an async function from
/// `&[TestDisk]` to a [`Backend`].
#[macro_export]
macro_rules! behaviour_suite {
    ($make:path) => {
        $crate::behaviour_suite! { @cases $make:
            a_snapshot_takes_every_disk
            the_record_says_what_was_taken
            snapshots_are_listed_in_order
            a_second_of_the_same_name_is_refused
            a_name_in_one_image_only_is_refused
            a_name_that_is_an_id_is_refused
            a_raw_disk_is_refused_by_name
            a_raw_disk_can_be_excluded
            a_read_only_disk_is_passed_over
            an_unknown_disk_is_refused
            a_dry_run_changes_nothing
            a_deletion_takes_it_from_every_disk
            a_deletion_counts_a_missing_one_as_done
            a_deletion_of_nothing_is_not_found
            a_deletion_with_children_takes_the_branch
            a_deletion_leaves_children_to_their_grandparent
            a_revert_brings_the_old_data_back
            a_revert_goes_to_the_first_of_two
            a_revert_of_a_running_domain_is_refused
            a_revert_keeps_now_under_a_safety_name
            a_revert_without_its_snapshot_changes_nothing
            an_external_snapshot_moves_the_writes_to_the_overlay
            an_overlay_is_never_made_over_a_file
            internal_and_external_mix
            external_snapshots_are_gone_back_to
            a_mixed_snapshot_is_gone_back_to
            external_snapshots_are_deleted_wherever_they_are
            a_branch_at_rest_survives_deletions
            layers_with_snapshots_inside_stay_what_they_are
            a_new_file_takes_the_name_of_the_image
            snapshots_inside_frozen_layers_are_deleted
            flattened_disks_stand_on_nothing
            a_disk_with_snapshots_inside_its_overlay_is_not_flattened
            a_torn_creation_is_undone
            a_creation_cut_short_after_its_effect_is_completed
            an_external_creation_cut_short_is_brought_to_an_end
            memory_goes_to_a_file_and_comes_back
            memory_goes_inside_and_comes_back
            memory_inside_a_left_image_comes_back
            memory_of_a_domain_that_is_off_is_refused
            a_memory_file_is_never_made_over_a_file
            a_spoilt_memory_file_changes_nothing
            a_deletion_takes_the_memory_file
            a_domain_that_runs_is_reverted
            a_paused_guest_stays_paused
            a_check_of_a_sound_domain_finds_nothing
            a_check_finds_what_others_did
            what_others_made_is_adopted_and_deleted
        }
    };
    (@cases $make:path: $($case:ident)*) => {
        $(
            #[::tokio::test]
            async fn $case() {
                $crate::behaviour::$case($make).await;
            }
        )*
    };
}
