//! Where what xl sends of a domain ends, and when its guest was stopped.
//!
//! What `xl save` writes and `xl migrate` sends is the same: xl's header with the domain's configuration, then libxl's stream of records, in
//! which libxc's stream of records lies (Xen's `docs/specs/libxl-migration-stream.pandoc` and `libxc-migration-stream.pandoc`,
//! both of version 2 and later). xl goes on waiting after the last record, so that only the records tell the end.

use std::time::Instant;

use xlsnap_memory_file::XL_MAGIC;

/// Its magic, and four words: byte order, mandatory and optional flags, length of what follows.
const XL_HEADER: usize = 48;
const LIBXL_HEADER: usize = 16;
const LIBXL_IDENT: &[u8] = b"LibxlFmt";
const LIBXL_END: u32 = 0;
const LIBXL_CONTEXT: u32 = 1;
/// The image's header and the domain's.
const LIBXC_HEADER: usize = 24 + 16;
const LIBXC_END: u32 = 0;
const LIBXC_PAGES: u32 = 1;
/// Type and length of a record.
const RECORD: usize = 8;
/// The count of a page record, and the number of its first page.
const FIRST_PAGE: usize = 16;
/// What is a page's number; above are bits of its type.
const PAGE_NUMBER: u64 = (1 << 52) - 1;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    XlHeader,
    LibxlHeader,
    LibxlRecord,
    LibxcHeader,
    LibxcRecord,
    /// The first words of a page record with so many bytes after them.
    Pages {
        rest: u64,
    },
    End,
}

/// A stream that is read.
#[derive(Debug)]
pub(super) struct Stream {
    next: Next,
    /// What of the next head was read.
    head: Vec<u8>,
    /// How many bytes lie between here and the next head.
    skip: u64,
    first_page: u64,
    /// When the last record ended.
    ended: Instant,
    /// When the record before the present round of pages ended.
    round: Option<Instant>,
    /// When the last page record ended.
    pages: Option<Instant>,
}

impl Stream {
    pub(super) fn new(now: Instant) -> Self {
        let next = Next::XlHeader;
        Self { next, head: Vec::new(), skip: 0, first_page: 0, ended: now, round: None, pages: None }
    }

    /// Whether all of it was read.
    pub(super) fn is_whole(&self) -> bool {
        self.next == Next::End && self.skip == 0
    }

    /// When the guest was stopped, or a little before that. It was stopped before the last round, which holds the pages that it wrote to
    /// in the one before.
    pub(super) fn since(&self) -> Instant {
        self.round.or(self.pages).unwrap_or(self.ended)
    }

    /// Reads on. Bytes behind the end are an error, as is what is no such stream.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let some = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
                self.skip -= some as u64;
                bytes = &bytes[some..];
                if self.skip == 0 {
                    self.ended = now;
                }
                continue;
            }
            let wanted = match self.next {
                Next::XlHeader => XL_HEADER,
                Next::LibxlHeader => LIBXL_HEADER,
                Next::LibxlRecord | Next::LibxcRecord => RECORD,
                Next::LibxcHeader => LIBXC_HEADER,
                Next::Pages { .. } => FIRST_PAGE,
                Next::End => return Err("something follows its last record".to_owned()),
            };
            let some = (wanted - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..some]);
            bytes = &bytes[some..];
            if self.head.len() == wanted {
                self.head(now)?;
                self.head.clear();
            }
        }
        Ok(())
    }

    /// Reads a head that is whole.
    fn head(&mut self, now: Instant) -> Result<(), String> {
        let word =
            |at: usize| u32::from_le_bytes(self.head[at..at + 4].try_into().expect("it is four bytes"));
        let before = self.ended;
        self.ended = now;
        match self.next {
            Next::XlHeader if !self.head.starts_with(XL_MAGIC) => {
                return Err("xl's header is not there".to_owned());
            }
            Next::XlHeader => (self.next, self.skip) = (Next::LibxlHeader, u64::from(word(44))),
            Next::LibxlHeader if !self.head.starts_with(LIBXL_IDENT) => {
                return Err("libxl's header is not there".to_owned());
            }
            Next::LibxlHeader => self.next = Next::LibxlRecord,
            Next::LibxlRecord => {
                self.skip = padded(word(4));
                self.next = match word(0) {
                    LIBXL_END => Next::End,
                    LIBXL_CONTEXT => Next::LibxcHeader,
                    _ => Next::LibxlRecord,
                };
            }
            Next::LibxcHeader => self.next = Next::LibxcRecord,
            Next::LibxcRecord => {
                let length = padded(word(4));
                match word(0) {
                    LIBXC_PAGES if length >= FIRST_PAGE as u64 => {
                        // What its pages follow is what it is measured by.
                        self.ended = before;
                        self.next = Next::Pages { rest: length - FIRST_PAGE as u64 };
                    }
                    LIBXC_END => (self.next, self.skip) = (Next::LibxlRecord, length),
                    _ => self.skip = length,
                }
            }
            Next::Pages { rest } => {
                let first = u64::from_le_bytes(self.head[8..16].try_into().expect("it is eight bytes"));
                let first = first & PAGE_NUMBER;
                // Each round goes through the memory once, from its beginning.
                if self.pages.is_some() && first <= self.first_page {
                    self.round = Some(before);
                }
                self.first_page = first;
                self.pages = Some(now);
                (self.next, self.skip) = (Next::LibxcRecord, rest);
            }
            Next::End => {}
        }
        Ok(())
    }
}

/// A record's body takes a multiple of 8 bytes.
fn padded(length: u32) -> u64 {
    u64::from(length).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut record = [kind.to_le_bytes(), u32::try_from(body.len()).unwrap().to_le_bytes()].concat();
        record.extend(body);
        record.resize(record.len().next_multiple_of(8), 0);
        record
    }

    fn pages(first: u64) -> Vec<u8> {
        let count = [1u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
        record(LIBXC_PAGES, &[count, (first | 9 << 60).to_le_bytes().to_vec(), vec![7; 4096]].concat())
    }

    /// As xl sends it, with these page records.
    fn stream(firsts: &[u64]) -> Vec<Vec<u8>> {
        let configuration = b"{}\0";
        let mut header = XL_MAGIC.to_vec();
        for word in [0x0102_0304, 3, 0, 3u32] {
            header.extend(word.to_le_bytes());
        }
        header.extend(configuration);
        let libxl = [LIBXL_IDENT, &[0, 0, 0, 2, 0, 0, 0, 0]].concat();
        let mut parts =
            vec![header, libxl, record(LIBXL_CONTEXT, &[]), vec![0xff; LIBXC_HEADER], record(0x11, &[1; 12])];
        parts.extend(firsts.iter().map(|first| pages(*first)));
        parts.extend([
            record(8, &[0; 24]),
            record(LIBXC_END, &[]),
            record(3, &[5; 9]),
            record(LIBXL_END, &[]),
        ]);
        parts
    }

    #[test]
    fn the_end_is_found_wherever_it_is_cut() {
        let whole = stream(&[0, 16, 0]).concat();
        let now = Instant::now();
        for piece in [1, 7, 64, 5000, whole.len()] {
            let mut read = Stream::new(now);
            for bytes in whole.chunks(piece) {
                assert!(!read.is_whole());
                read.read(bytes, now).unwrap();
            }
            assert!(read.is_whole(), "{piece}");
            assert!(read.read(b"x", now).is_err());
        }
        assert!(Stream::new(now).read(&[0; XL_HEADER], now).is_err());
    }

    #[test]
    fn the_guest_was_stopped_before_the_last_round() {
        let begin = Instant::now();
        let since = |firsts: &[u64]| {
            let mut read = Stream::new(begin);
            for (at, part) in stream(firsts).iter().enumerate() {
                read.read(part, begin + Duration::from_secs(at as u64)).unwrap();
            }
            (read.since() - begin).as_secs()
        };
        // Its parts before the pages are 0 to 4.
        assert_eq!(since(&[0, 16, 32]), 7, "nothing was written to meanwhile");
        assert_eq!(since(&[0, 16, 32, 2, 40]), 7);
        assert_eq!(since(&[0, 16, 32, 2, 2]), 8);
    }
}
