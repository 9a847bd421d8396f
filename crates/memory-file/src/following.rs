//! A file that another program reads by itself, from a descriptor that it shares with us, and that is summed behind it.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::checksum::{Sum, Summing};
use crate::reading::{CHUNK, FromStart, Opened};
use crate::worker::{Shared, TICK, Worker};
use crate::{Error, Packing};

/// How soon it is looked again how far the other program is. A look waits for a read that goes on, and holds the next one up.
const SOON: Duration = Duration::from_millis(10);

impl Opened {
    /// The open file, for another program that reads it by itself, from its beginning on, as it is stored: `None` of a packed one, which
    /// [`Opened::feed`] unpacks. It can only be read (`O_RDONLY`), and its position is shared with this value.
    ///
    /// # Errors
    /// [`crate::Kind::Failed`] when there is no further descriptor.
    pub fn descriptor(&self) -> Result<Option<OwnedFd>, Error> {
        match self.packing() {
            Packing::None => self.handle().map(|file| Some(file.into())),
            Packing::Zstd => Ok(None),
        }
    }

    /// Waits for `reading`, by which another program reads [`Opened::descriptor`], and reads all of the file behind it, from the page cache;
    /// compares it with what was recorded, and gives what `reading` gave. So a file that is changed before the other program has read it is
    /// found out. `progress` is told how many bytes were read.
    ///
    /// # Errors
    /// [`crate::Kind::Damaged`] when the file is not what was recorded, whatever `reading` gave: nothing must be made of it then.
    /// [`crate::Kind::Failed`] when it cannot be read; `reading` may not have ended.
    ///
    /// # Cancel safety
    /// It only looks. Dropped, its thread ends soon after.
    pub async fn follow<T>(
        &self,
        reading: impl Future<Output = T>,
        mut progress: impl FnMut(u64),
    ) -> Result<T, Error> {
        let (path, handle) = (self.path().to_owned(), self.handle()?);
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = has_ended.clone();
        let mut worker = Worker::start(self.path(), move |shared| {
            follow(handle, &ended, shared).map_err(|e| Error::io(&path, "cannot be read", e))
        })?;
        let mut reading = pin!(reading);
        let result = loop {
            match tokio::time::timeout(TICK, &mut reading).await {
                Ok(result) => break result,
                Err(_) => progress(worker.moved()),
            }
        };
        has_ended.store(true, Ordering::SeqCst);
        let read = worker.done(&mut progress).await?;
        progress(read.bytes);
        self.compare(read).map(|()| result)
    }
}

/// Sums a file up as far as its position has come, and when the other reader has ended all of it.
fn follow(mut file: File, has_ended: &AtomicBool, shared: &Shared) -> io::Result<Sum> {
    let mut summing = Summing::new();
    let mut buffer = vec![0; CHUNK];
    let (mut all, mut until) = (false, 0);
    loop {
        if summing.bytes() >= until {
            // First this: what is read after it was read by the other one, too.
            all = has_ended.load(Ordering::SeqCst);
            until = if all { u64::MAX } else { file.stream_position()? };
        }
        let room = until.saturating_sub(summing.bytes()).min(CHUNK as u64) as usize;
        let mut from = FromStart { file: &file, at: summing.bytes() };
        match from.read(&mut buffer[..room]) {
            Ok(0) if all => return Ok(summing.sum()),
            Ok(0) => {
                // It may have become shorter than it was read.
                until = 0;
                std::thread::sleep(SOON);
            }
            Ok(read) => summing.add(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        shared.set_moved(summing.bytes());
        shared.go_on()?;
    }
}
