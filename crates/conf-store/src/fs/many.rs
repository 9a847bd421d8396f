//! Reading all records of a domain, by several threads where there are many: the time goes into opening files.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use xlsnap_types::model::SnapshotName;

use super::read::{Reader, found};
use crate::Entry;
use crate::durable::Dir;

/// So many records are read by a thread at once, and so many take about as long to read as a thread to begin.
const BATCH: usize = 64;

/// More threads than these wait for one directory's lock in the kernel.
const MAX_THREADS: usize = 8;

/// Calls `visit` on this thread with each record of `names` that is still there, in no order. At most a few batches are in memory.
pub(super) fn read_all(dir: &Dir, names: Vec<SnapshotName>, visit: &mut (dyn FnMut(Entry) + Send)) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let threads = threads.min(names.len() / (2 * BATCH));
    if threads < 2 {
        return read_here(dir, &names, visit);
    }
    let (batches, next) = (names.chunks(BATCH), AtomicUsize::new(0));
    let batches: Vec<&[SnapshotName]> = batches.collect();
    thread::scope(|scope| {
        let (entries, came) = sync_channel(2 * threads);
        let mut begun = 0;
        for _ in 0..threads {
            let (entries, batches, next) = (entries.clone(), &batches, &next);
            let thread = thread::Builder::new().spawn_scoped(scope, move || {
                let mut reader = Reader::default();
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let read: Vec<Entry> =
                        batch.iter().filter_map(|name| read(&mut reader, dir, name)).collect();
                    // The reader of the channel is gone only when `visit` has panicked.
                    if entries.send(read).is_err() {
                        return;
                    }
                }
            });
            // Where the system has no thread more, fewer read, which takes longer.
            begun += usize::from(thread.is_ok());
        }
        drop(entries);
        if begun == 0 {
            return read_here(dir, &names, visit);
        }
        came.iter().flatten().for_each(visit);
    });
}

fn read_here(dir: &Dir, names: &[SnapshotName], visit: &mut (dyn FnMut(Entry) + Send)) {
    let mut reader = Reader::default();
    names.iter().filter_map(|name| read(&mut reader, dir, name)).for_each(visit);
}

/// `None` for one that was deleted since the directory was read.
fn read(reader: &mut Reader, dir: &Dir, name: &SnapshotName) -> Option<Entry> {
    let record = found(reader.read(dir, name)).transpose()?;
    Some(Entry { name: name.as_str().to_owned(), record })
}
