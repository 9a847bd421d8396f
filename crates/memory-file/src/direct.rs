//! A file that is written past the page cache (open(2), `O_DIRECT`), on a thread of its own while more comes.
//!
//! The processor copies nothing then, the disk works from the beginning on, and there is little to flush at the end.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::num::NonZeroU64;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use rustix::fs::{Advice, OFlags};
use rustix::io::Errno;

/// What disks and file systems want the place in the file, in memory and the length to be a multiple of. Where one wants more, it refuses
/// the first write.
const BLOCK: usize = 4096;

/// How much is written at once.
const PART: usize = 2 << 20;

/// How many parts are on their way, the one that is being filled among them.
const PARTS: usize = 4;

/// A part of the file. It begins in memory where a block may.
struct Part {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl Part {
    fn new() -> Self {
        let storage = vec![0; PART + BLOCK];
        let start = storage.as_ptr().align_offset(BLOCK);
        Self { storage, start, length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.storage[self.start..][..self.length]
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..][self.length..PART]
    }
}

/// Takes what is to be written.
#[must_use = "what was written last is not with the disk until it is finished"]
pub(crate) struct DirectWriter {
    part: Part,
    /// How many parts there are.
    parts: usize,
    full: Sender<Part>,
    empty: Receiver<Part>,
    thread: JoinHandle<io::Result<()>>,
}

impl DirectWriter {
    /// Writes to `file` from its beginning on. When a write fails, `failed` is called at once, on the writing thread.
    ///
    /// The flags of `file` change meanwhile, and so do those of all its clones: nobody may read it before the end.
    pub(crate) fn start(file: File, failed: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (full, parts) = mpsc::channel();
        let (done, empty) = mpsc::channel();
        let write = move || {
            let result = write(Direct::new(file), &parts, &done);
            if result.is_err() {
                failed();
            }
            result
        };
        let thread = std::thread::Builder::new().name("xlsnap-disk".to_owned()).spawn(write)?;
        Ok(Self { part: Part::new(), parts: 1, full, empty, thread })
    }

    /// Has `read` put bytes where they are written from, and say how many; it is not asked for none.
    ///
    /// # Errors
    /// Those of `read`, and any when the file could not be written: [`DirectWriter::give_up`] has the cause.
    pub(crate) fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        if self.part.length == PART {
            self.pass()?;
        }
        let bytes = read(self.part.room())?;
        self.part.length += bytes;
        Ok(bytes)
    }

    /// Passes a full part on, and takes an empty one.
    fn pass(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let empty = match self.empty.try_recv() {
            Ok(part) => part,
            Err(_) if self.parts < PARTS => {
                self.parts += 1;
                Part::new()
            }
            Err(_) => self.empty.recv().map_err(|_| gone())?,
        };
        self.full.send(mem::replace(&mut self.part, empty)).map_err(|_| gone())
    }

    /// Waits until everything is written. It is not flushed yet.
    ///
    /// # Errors
    /// The first write that failed.
    pub(crate) fn finish(self) -> io::Result<()> {
        let Self { part, full, thread, .. } = self;
        // Where nobody takes it, the thread knows why.
        let _ = full.send(part);
        drop(full);
        join(thread)
    }

    /// Waits until nothing more is written.
    ///
    /// # Errors
    /// The first write that failed.
    pub(crate) fn give_up(self) -> io::Result<()> {
        let Self { full, thread, .. } = self;
        drop(full);
        join(thread)
    }
}

impl Write for DirectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fill(|room| {
            let length = bytes.len().min(room.len());
            room[..length].copy_from_slice(&bytes[..length]);
            Ok(length)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn join(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().expect("the thread does not panic")
}

fn write(mut file: Direct, parts: &Receiver<Part>, done: &Sender<Part>) -> io::Result<()> {
    for mut part in parts {
        file.write(part.bytes())?;
        part.length = 0;
        // At the end nobody takes it.
        let _ = done.send(part);
    }
    file.use_cache()
}

/// A file that is written past the page cache as far as its file system lets it.
struct Direct {
    file: File,
    is_direct: bool,
    written: u64,
}

impl Direct {
    fn new(file: File) -> Self {
        let direct = rustix::fs::fcntl_getfl(&file)
            .and_then(|flags| rustix::fs::fcntl_setfl(&file, flags | OFlags::DIRECT));
        // Not every file system can: ramfs and some network file systems refuse (fcntl(2), `EINVAL`).
        Self { file, is_direct: direct.is_ok(), written: 0 }
    }

    /// Writes the rest through the page cache.
    fn use_cache(&mut self) -> io::Result<()> {
        if self.is_direct {
            let flags = rustix::fs::fcntl_getfl(&self.file)?;
            rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
            self.is_direct = false;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let blocks = bytes.len() - bytes.len() % BLOCK;
            // Only the end of the file has less than a block, and what comes after a write that ended within one.
            if blocks == 0 || !self.written.is_multiple_of(BLOCK as u64) {
                self.use_cache()?;
            }
            let now = if self.is_direct { &bytes[..blocks] } else { bytes };
            match self.file.write(now) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.begin(written as u64);
                    bytes = &bytes[written..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if self.is_direct && Errno::from_io_error(&e) == Some(Errno::INVAL) => {
                    self.use_cache()?
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Has the kernel begin with what the page cache got, so that there is less to flush at the end.
    fn begin(&mut self, written: u64) {
        if !self.is_direct {
            // It begins to write what is dirty in the range (fadvise(2), POSIX_FADV_DONTNEED), and would drop what is clean: nothing is
            // yet. It is advice: an error is no matter.
            let length = NonZeroU64::new(written);
            let _ = rustix::fs::fadvise(&self.file, self.written, length, Advice::DontNeed);
        }
        self.written += written;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Bytes of which no block is like another.
    fn bytes(length: usize) -> Vec<u8> {
        let mut word = 0x9e37_79b9_u32;
        let mut next = || {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            word.to_le_bytes()
        };
        (0..length.div_ceil(4)).flat_map(|_| next()).take(length).collect()
    }

    fn is_direct(file: &File) -> bool {
        rustix::fs::fcntl_getfl(file).unwrap().contains(OFlags::DIRECT)
    }

    #[test]
    fn a_file_of_any_length_is_what_was_written() {
        const ALL: usize = PART * PARTS;
        for length in
            [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, PART - 1, PART, PART + 1, ALL - 1, ALL, ALL + 1, 2 * ALL + 7]
        {
            let bytes = bytes(length);
            for step in [511, 128 << 10, usize::MAX].into_iter().filter(|step| length / step < 5000) {
                let path = tempfile::NamedTempFile::new().unwrap();
                let file = path.reopen().unwrap();
                let failed = || panic!("it can be written");
                let mut writer = DirectWriter::start(file.try_clone().unwrap(), failed).unwrap();
                for some in bytes.chunks(step.min(bytes.len().max(1))) {
                    writer.write_all(some).unwrap();
                }
                assert!(writer.parts <= PARTS);
                writer.finish().unwrap();
                assert!(std::fs::read(path.path()).unwrap() == bytes, "{length} bytes, {step} at once");
                assert!(!is_direct(&file), "it is read as any other");
            }
        }
    }

    #[test]
    fn what_a_file_system_refuses_goes_through_the_page_cache() {
        let bytes = bytes(3 * BLOCK + 5);
        let written = |direct: &mut Direct, bytes: &[u8], path: &tempfile::NamedTempFile| {
            direct.write(bytes).unwrap();
            assert!(!direct.is_direct && !is_direct(&direct.file));
            assert!(std::fs::read(path.path()).unwrap() == bytes);
        };
        // At the first write: from a place in memory where no block begins, as of a disk with larger blocks.
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut part = Part::new();
        part.start += 1;
        part.length = bytes.len();
        part.storage[part.start..][..bytes.len()].copy_from_slice(&bytes);
        written(&mut Direct::new(path.reopen().unwrap()), part.bytes(), &path);
        // At once.
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut never = Direct::new(path.reopen().unwrap());
        never.use_cache().unwrap();
        written(&mut never, &bytes, &path);
    }

    #[test]
    fn a_write_that_fails_is_told_at_once_and_is_the_cause() {
        for finish in [true, false] {
            let path = tempfile::NamedTempFile::new().unwrap();
            let (told, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let (theirs, reading) = (failed.clone(), File::open(path.path()).unwrap());
            let mut writer =
                DirectWriter::start(reading, move || theirs.store(true, Ordering::SeqCst)).unwrap();
            let all = bytes(2 * PART * PARTS);
            if let Err(e) = writer.write_all(&all) {
                assert_eq!(e.kind(), io::ErrorKind::BrokenPipe, "{e}");
                told.store(true, Ordering::SeqCst);
            }
            let cause = if finish { writer.finish() } else { writer.give_up() }.unwrap_err();
            assert_eq!(Errno::from_io_error(&cause), Some(Errno::BADF), "{cause}");
            assert!(told.load(Ordering::SeqCst) && failed.load(Ordering::SeqCst));
        }
    }
}
