//! Reading all records of a domain, by several threads where there are many: the time goes into opening files.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use xlsnap_types::model::SnapshotName;

use super::read::{Reader, found};
use crate::Entry;
use crate::durable::Dir;

/// So many records are read by a thread at once, and so many take about as long to read as a thread to begin.
const BATCH: usize = 64;

/// More threads than these wait for one directory's lock in the kernel.
const MAX_THREADS: usize = 8;

/// Calls `visit` with each record of `names` that is still there, in no order and one at a time. Each thread holds one batch.
pub(super) fn read_all(dir: &Dir, names: &[SnapshotName], visit: &mut (dyn FnMut(Entry) + Send)) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let threads = threads.min(names.len() / (2 * BATCH)).max(1);
    let (next, visit) = (AtomicUsize::new(0), Mutex::new(visit));
    let read_batches = || {
        let mut reader = Reader::default();
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(names) = names.chunks(BATCH).nth(next.fetch_add(1, Ordering::Relaxed)) {
            batch.extend(names.iter().filter_map(|name| read(&mut reader, dir, name)));
            // Visited by the thread that read it, which is cheaper than to hand it on. A visit that panicked is told by its thread.
            let Ok(mut visit) = visit.lock() else { return };
            batch.drain(..).for_each(&mut **visit);
        }
    };
    // What `visit` logs belongs to the caller's operation.
    let span = tracing::Span::current();
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system has no thread more, fewer read, which takes longer.
            let _ = thread::Builder::new().spawn_scoped(scope, || span.in_scope(read_batches));
        }
        read_batches();
    });
}

/// `None` for one that was deleted since the directory was read.
fn read(reader: &mut Reader, dir: &Dir, name: &SnapshotName) -> Option<Entry> {
    let record = found(reader.read(dir, name)).transpose()?;
    Some(Entry { name: name.as_str().to_owned(), record })
}
