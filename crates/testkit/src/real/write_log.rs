//! What was written to a disk, in order, as QEMU's driver `blklogwrites` notes it.
//!
//! The format is that of the kernel's dm-log-writes (`drivers/md/dm-log-writes.c`): little-endian, in sectors of 512 bytes. The first
//! sector has a magic number, a version, the number of entries and the size of a sector. Then each entry is a sector with where it
//! goes, its length in sectors and its flags, and after it what was written; a discard has nothing after it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x6a_7366_7773_6872;
const SECTOR: usize = 512;

const FLUSH: u64 = 1;
/// On the disk when it is done, without a flush.
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;

/// All that was written to a disk.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Where on the disk, in bytes.
    at: u64,
    /// How much, in bytes.
    len: usize,
    flags: u64,
    /// Where in the log what was written begins.
    data: u64,
}

impl Entry {
    fn is_flush(&self) -> bool {
        self.flags & FLUSH != 0
    }

    /// Whether a disk may lose it until the next flush.
    fn is_volatile(&self) -> bool {
        self.flags & (FLUSH | FUA) == 0
    }
}

/// How many entries a log has that is being written: what was done before is among them.
pub(super) fn count(log: &Path) -> usize {
    number(&sector(&File::open(log).expect("the log is there"), 0), 2)
}

impl WriteLog {
    /// Reads where its entries are.
    pub(super) fn read(log: &Path) -> Self {
        let file = File::open(log).expect("the log is there");
        let head = sector(&file, 0);
        let size = u32::from_le_bytes(head[24..28].try_into().expect("four bytes"));
        assert_eq!((word(&head, 0), size as usize), (MAGIC, SECTOR), "it is a log of writes");
        let mut next = SECTOR as u64;
        let entry = |_| {
            let head = sector(&file, next);
            let (flags, len) = (word(&head, 2), number(&head, 1) * SECTOR);
            let entry = Entry { at: word(&head, 0) * SECTOR as u64, len, flags, data: next + SECTOR as u64 };
            next = entry.data + if flags & DISCARD == 0 { len as u64 } else { 0 };
            entry
        };
        let entries = (0..number(&head, 2)).map(entry).collect();
        Self { file, entries }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Which entries of these are flushes.
    pub fn flushes(&self, among: std::ops::Range<usize>) -> Vec<usize> {
        among.filter(|at| self.entries[*at].is_flush()).collect()
    }

    /// Makes the disk as it may be when the power is cut after so many entries. What was flushed is there. Of the rest a disk keeps
    /// what it wants, sector by sector: `keeps` is told the entry, and which sector of it.
    pub(super) fn replay(&self, entries: usize, disk: &Path, keeps: &mut dyn FnMut(usize, usize) -> bool) {
        let disk = OpenOptions::new().write(true).open(disk).expect("the disk is there");
        let flushed = self.flushes(0..entries).last().copied().unwrap_or_default();
        for (index, entry) in self.entries[..entries].iter().enumerate() {
            if entry.flags & DISCARD != 0 {
                // What was discarded may have its old bytes.
                continue;
            }
            let mut data = vec![0; entry.len];
            self.file.read_exact_at(&mut data, entry.data).expect("the log has it");
            if index < flushed || !entry.is_volatile() {
                disk.write_all_at(&data, entry.at).expect("a sparse file takes it");
                continue;
            }
            for (number, sector) in
                data.chunks(SECTOR).enumerate().filter(|(number, _)| keeps(index, *number))
            {
                let at = entry.at + (number * SECTOR) as u64;
                disk.write_all_at(sector, at).expect("a sparse file takes it");
            }
        }
    }
}

fn sector(file: &File, at: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    file.read_exact_at(&mut bytes, at).expect("the log has it");
    bytes
}

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * index..8 * (index + 1)].try_into().expect("eight bytes"))
}

fn number(bytes: &[u8], index: usize) -> usize {
    usize::try_from(word(bytes, index)).expect("it fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::Scratch;

    /// A log of these entries: where, of how many sectors, with which flags, and the byte.
    fn log(scratch: &Scratch, entries: &[(u64, u64, u64, u8)]) -> WriteLog {
        let mut bytes: Vec<u8> =
            [MAGIC, 1, entries.len() as u64, SECTOR as u64].into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.resize(SECTOR, 0);
        for (at, sectors, flags, byte) in entries {
            let begin = bytes.len();
            bytes.extend([*at, *sectors, *flags, 0].into_iter().flat_map(u64::to_le_bytes));
            bytes.resize(begin + SECTOR, 0);
            if flags & DISCARD == 0 {
                bytes.resize(bytes.len() + SECTOR * usize::try_from(*sectors).unwrap(), *byte);
            }
        }
        let path = scratch.path("log");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(count(&path), entries.len());
        WriteLog::read(&path)
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_and_some_of_the_rest() {
        let scratch = Scratch::new();
        let entries = [
            (0, 2, 0, 1),
            (0, 0, FLUSH, 0),
            (1, 2, 0, 2),
            (0, 4, DISCARD, 0),
            (3, 1, FUA, 3),
            (0, 0, FLUSH, 0),
            (0, 1, 0, 4),
        ];
        let log = log(&scratch, &entries);
        assert_eq!((log.len(), log.flushes(0..7), log.flushes(2..5)), (7, vec![1, 5], vec![]));
        let disk = scratch.path("disk");
        let check = |entries: usize, keeps: &dyn Fn(usize, usize) -> bool, expected: [u8; 4]| {
            std::fs::write(&disk, [0; 4 * SECTOR]).unwrap();
            log.replay(entries, &disk, &mut |entry, sector| keeps(entry, sector));
            let bytes = std::fs::read(&disk).unwrap();
            let found: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
            assert_eq!(found, expected, "{entries}");
        };
        check(0, &|_, _| true, [0, 0, 0, 0]);
        check(1, &|_, _| false, [0, 0, 0, 0]);
        check(1, &|_, sector| sector == 1, [0, 1, 0, 0]);
        check(2, &|_, _| false, [1, 1, 0, 0]);
        check(3, &|_, _| true, [1, 2, 2, 0]);
        check(5, &|_, _| false, [1, 1, 0, 3]);
        check(6, &|_, _| false, [1, 2, 2, 3]);
        check(7, &|entry, _| entry == 6, [4, 2, 2, 3]);
    }
}
