//! A file whose data goes to the disk while more comes, so that there is little to wait for at the end.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::sync::mpsc;

use rustix::fs::Advice;

/// How much is written before the kernel is told to begin with it.
const AMOUNT: u64 = 8 << 20;

pub(crate) struct WriteBack {
    file: File,
    written: u64,
    begun: u64,
    /// To a thread, because telling the kernel waits when the disk has much to do.
    begin: mpsc::Sender<(u64, u64)>,
}

impl WriteBack {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let theirs = file.try_clone()?;
        let (begin, ranges) = mpsc::channel::<(u64, u64)>();
        std::thread::Builder::new().name("xlsnap-writeback".to_owned()).spawn(move || {
            for (from, length) in ranges {
                // The kernel begins to write what is dirty in the range (fadvise(2), POSIX_FADV_DONTNEED), and would drop
                // what is clean: nothing is yet. It is advice: an error is no matter.
                let _ = rustix::fs::fadvise(&theirs, from, NonZeroU64::new(length), Advice::DontNeed);
            }
        })?;
        Ok(Self { file, written: 0, begun: 0, begin })
    }
}

impl Write for WriteBack {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.begun >= AMOUNT {
            // Without the thread the end takes longer.
            let _ = self.begin.send((self.begun, self.written - self.begun));
            self.begun = self.written;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
