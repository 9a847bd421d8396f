//! The seven functions of libxl's snapshot design, by its names, over a [`crate::Host`] and a domid.
//!
//! They do what the design says and no more: the functions on the configuration file touch no disk, those on disks touch no
//! record. For a snapshot of a whole domain there is [`crate::Host::create`].
//! Those on disks are operations as all others: journaled, and finished or undone after a crash by the next operation or by
//! [`crate::Host::recover`].
//!
//! Each takes the domain's lock, if it changes something, and waits for it as long as the host's options say. A domid is
//! Xen's, on a Xen host, also that of a domain that has ended since; else the one that a domain's file gives it
//! ([`crate::Host::domain_by_domid`]).

mod configuration;
mod disks;
mod failure;

pub use configuration::{
    delete_dom_snapshot_conf, list_dom_snapshot, load_dom_snapshot_conf, store_dom_snapshot_conf,
};
pub use disks::{disk_snapshot_create, disk_snapshot_delete, disk_snapshot_revert};
pub use failure::{Code, Failure};
