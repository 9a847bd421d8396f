//! The snapshots of a domain, compact: ten thousand rows take a few MiB.

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, Record};
use xlsnap_types::model::{Consistency, SnapshotName, StateFlags};

use crate::Error;
use crate::error::from_store;

#[cfg(test)]
mod tests;

/// One snapshot of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: SnapshotName,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub creation_time: u64,
    /// The snapshot before it, where it is known.
    pub parent: Option<SnapshotName>,
    /// The domain's state before it.
    pub state: StateFlags,
    /// What a guest finds after a revert; `None` when another program made the record.
    pub consistency: Option<Consistency>,
    /// How many of its disks are inside their images.
    pub internal: u32,
    /// How many of its disks are external.
    pub external: u32,
    /// Whether the guest's memory is part of it.
    pub memory: bool,
}

/// All snapshots of a domain.
#[derive(Debug, Default)]
pub struct Listing {
    /// The snapshots, by creation time; of the same second a parent before its children, then by name.
    pub rows: Vec<Row>,
    /// Records that cannot be read, by the name they are stored under, and why.
    pub unreadable: Vec<(String, xlsnap_conf_store::Error)>,
    /// "You are here": the snapshot that was made or reverted to last.
    pub current: Option<SnapshotName>,
}

/// Lists the snapshots of a domain; one that is not known has none. Takes no lock and changes nothing.
///
/// # Errors
/// When the store cannot be read as a whole; a single record that cannot be read is in [`Listing::unreadable`].
///
/// # Cancel safety
/// It only reads.
pub async fn list(store: &dyn ConfStore, domain: Uuid) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let Listing { rows, unreadable, current } = &mut listing;
    store
        .list(domain, &mut |entry| match entry.record.and_then(|record| row(&entry.name, &record)) {
            Ok(row) => rows.push(row),
            Err(error) => unreadable.push((entry.name, error)),
        })
        .await
        .map_err(|e| from_store(e, format!("the snapshots of domain {domain} cannot be listed")))?;
    sort(rows);
    unreadable.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    *current = store
        .domain_record(domain)
        .await
        .map_err(|e| from_store(e, format!("what is stored of domain {domain} itself cannot be read")))?
        .and_then(|record| record.current);
    Ok(listing)
}

/// Sorts by creation time, ancestry and name, in this order.
fn sort(rows: &mut Vec<Row>) {
    rows.sort_unstable_by(|a, b| (a.creation_time, &a.name).cmp(&(b.creation_time, &b.name)));
    let depths: Vec<u32> =
        rows.chunk_by(|a, b| a.creation_time == b.creation_time).flat_map(depths).collect();
    // As a rule no two are of one second.
    if depths.iter().all(|depth| *depth == 0) {
        return;
    }
    let mut deep: Vec<(u32, Row)> = depths.into_iter().zip(std::mem::take(rows)).collect();
    deep.sort_unstable_by(|(m, a), (n, b)| (a.creation_time, m, &a.name).cmp(&(b.creation_time, n, &b.name)));
    rows.extend(deep.into_iter().map(|(_, row)| row));
}

/// How many ancestors each of these rows, sorted by name, has among them. In a circle, which only a damaged record can
/// make, the counting begins somewhere.
fn depths(rows: &[Row]) -> Vec<u32> {
    let parent = |row: usize| {
        let parent = rows[row].parent.as_ref()?;
        rows.binary_search_by(|row| row.name.cmp(parent)).ok()
    };
    let mut depths = vec![None; rows.len()];
    for row in 0..rows.len() {
        let mut way = Vec::new();
        let mut at = Some(row);
        // What is on the way has a depth for now, so that a circle ends.
        while let Some(here) = at.filter(|here| depths[*here].is_none()) {
            depths[here] = Some(0);
            way.push(here);
            at = parent(here);
        }
        let first: u32 = at.and_then(|known| depths[known]).map_or(0, |above| above + 1);
        for (depth, here) in (first..).zip(way.into_iter().rev()) {
            depths[here] = Some(depth);
        }
    }
    depths.into_iter().map(Option::unwrap_or_default).collect()
}

fn row(name: &str, record: &Record) -> Result<Row, xlsnap_conf_store::Error> {
    let malformed = |e: xlsnap_types::model::NameError| {
        let message = format!("the record {name:?} has a name that no snapshot can have");
        xlsnap_conf_store::Error::new(xlsnap_conf_store::Kind::Malformed, message).with_source(e)
    };
    let snapshot = &record.snapshot;
    let external = snapshot.disks.iter().filter(|disk| disk.is_external()).count();
    Ok(Row {
        name: SnapshotName::new(name).map_err(malformed)?,
        creation_time: snapshot.creation_time,
        parent: record.meta.as_ref().and_then(|meta| meta.parent.clone()),
        state: snapshot.into(),
        consistency: record.meta.as_ref().map(|meta| meta.consistency),
        internal: u32::try_from(snapshot.disks.len() - external).unwrap_or(u32::MAX),
        external: u32::try_from(external).unwrap_or(u32::MAX),
        memory: snapshot.has_memory() || record.meta.as_ref().is_some_and(|meta| meta.memory.is_some()),
    })
}
