//! `xlsnap.list/1`.

use serde::{Serialize, Serializer};
use uuid::Uuid;
use xlsnap::{ChainFile, DomainListing, Error, Row};
use xlsnap_types::model::{Consistency, SnapshotName, StateFlags};

use super::PendingForm;
use crate::render::time::rfc3339;

/// The files of a domain's disks, where they were asked for; or why they could not be looked at.
pub(crate) type Chains = Option<Result<Vec<ChainFile>, Error>>;

#[derive(Serialize)]
pub(crate) struct ListAnswer<'a> {
    schema: &'static str,
    domains: Vec<ListOfDomain<'a>>,
}

impl<'a> ListAnswer<'a> {
    pub(crate) fn new(domains: &'a [(DomainListing, Chains)]) -> Self {
        let domains = domains.iter().map(|(listing, chains)| ListOfDomain::new(listing, chains));
        Self { schema: "xlsnap.list/1", domains: domains.collect() }
    }
}

#[derive(Serialize)]
pub(crate) struct ListOfDomain<'a> {
    domain: &'a str,
    uuid: Uuid,
    current: Option<&'a SnapshotName>,
    snapshots: Rows<'a>,
    unreadable: Vec<UnreadableForm<'a>>,
    /// The files of its disks; of a list that is no tree, and where they could not be looked at, nothing.
    chains: Option<&'a [ChainFile]>,
    /// An operation that waits for recovery.
    pending: Option<PendingForm<'a>>,
}

impl<'a> ListOfDomain<'a> {
    fn new(of: &'a DomainListing, chains: &'a Chains) -> Self {
        let unreadable = &of.listing.unreadable;
        Self {
            domain: &of.domain,
            uuid: of.uuid,
            current: of.listing.current.as_ref(),
            snapshots: Rows(&of.listing.rows),
            unreadable: unreadable
                .iter()
                .map(|(name, why)| UnreadableForm { name, why: chain(why) })
                .collect(),
            chains: chains.as_ref().and_then(|looked| looked.as_deref().ok()),
            pending: of.pending.as_ref().map(PendingForm::new),
        }
    }
}

/// Written row by row: ten thousand are never held as a second copy.
struct Rows<'a>(&'a [Row]);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(RowForm::new))
    }
}

#[derive(Serialize)]
struct RowForm<'a> {
    name: &'a SnapshotName,
    creation_time: u64,
    created: Option<String>,
    parent: Option<&'a SnapshotName>,
    state: StateFlags,
    consistency: Option<Consistency>,
    internal: u32,
    external: u32,
    memory: bool,
}

impl<'a> RowForm<'a> {
    fn new(row: &'a Row) -> Self {
        Self {
            name: &row.name,
            creation_time: row.creation_time,
            created: rfc3339(row.creation_time),
            parent: row.parent.as_ref(),
            state: row.state,
            consistency: row.consistency,
            internal: row.internal,
            external: row.external,
            memory: row.memory,
        }
    }
}

#[derive(Serialize)]
struct UnreadableForm<'a> {
    name: &'a str,
    why: Vec<String>,
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut words = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    words
}
