//! A save of a guest that goes on meanwhile: what `xl migrate` sends, taken by us.
//!
//! `xl save` stops the guest and then writes all of its memory. `xl migrate` sends the same bytes while the guest runs, and stops it for the last of
//! them. Then it waits until the other side says that it has made a domain of them. We say nothing, so that xl lets the guest go on,
//! and ends with status 1. It does the same when we are gone: no guest is left standing by our end.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::program::{Running, failure};
use super::stream::Stream;
use super::{Effect, Error, Kind, Xl};
use crate::toolstack::{Suspended, Told};
use crate::{Domid, Toolstack};

/// What xl waits for before it sends anything (`xl.h` of Xen, the same since 3.4).
const BANNER: &[u8] = b"xl migration receiver ready, send binary domain data.\n";

/// How much is read at a time, in bytes.
const CHUNK: usize = 1 << 20;

impl Xl {
    /// Has xl send a domain's memory into `file` while its guest runs, to the end, from where on that stands still.
    pub(super) async fn take_what_it_sends(
        &self,
        domid: Domid,
        file: &Path,
        told: Told<'_>,
    ) -> Result<(Instant, LiveSave), Error> {
        let unprepared = |source: io::Error| {
            let message = format!("what xl sends of domain {domid} cannot be taken into {}", file.display());
            Error::new(Kind::Failed, Effect::None, message).with_source(source)
        };
        let receiver = Receiver::new(file).map_err(unprepared)?;
        let (number, command) = (domid.to_string(), receiver.command().to_owned());
        let mut taking = receiver.take(file).map_err(unprepared)?;
        // Without a word for ssh, what follows the domain is the command to run, and no host.
        let words = ["migrate", "-s", "", &number, &command].map(OsStr::new);
        let mut running = self.start(&words)?;
        let bytes = Arc::clone(&taking.bytes);
        let how_far = || Some(bytes.load(Ordering::Relaxed));
        let (taken, moved) = {
            let moving = self.move_memory(&mut running, None, how_far, told, |_| {});
            tokio::select! {
                taken = &mut taking.end => (Some(taken), Ok(None)),
                ended = moving => (None, ended),
            }
        };
        if let Some(Ok(Ok(since))) = taken {
            return Ok((since, taking.stopped(self.clone(), running)));
        }
        // It could not be written, or xl ended, or stands still. Without us xl lets the guest go on, and says why.
        let end = taking.give_up();
        let deadline = Instant::now() + self.limits().patience;
        let ended = match moved {
            Ok(None) if taken.is_some() => self.wait(&mut running, || Instant::now() < deadline).await,
            moved => moved,
        };
        if !matches!(ended, Ok(Some(_))) {
            self.end_save(file).await?;
        }
        let ended = running.ended(ended, Effect::Unknown)?;
        // What is on its way into the file must not come there later.
        let taken = match taken {
            Some(taken) => taken,
            None => match tokio::time::timeout(self.limits().patience, end).await {
                Ok(taken) => taken,
                Err(_) => return Err(running.overdue(Effect::Unknown)),
            },
        };
        match taken {
            Ok(Err(cause)) if cause.kind() != io::ErrorKind::UnexpectedEof => {
                let full = cause.kind() == io::ErrorKind::StorageFull;
                let kind = if full { Kind::NoSpace } else { Kind::Failed };
                let message = format!("what `{}` sends cannot be kept", running.command);
                Err(Error::new(kind, Effect::Unknown, message).with_source(cause))
            }
            _ => Err(failure(&running.command, &ended, Effect::Unknown)),
        }
    }
}

/// The ends of our pipes that are for xl, until it has opened them: with ours, neither side is told that the other one is gone.
type Theirs = Arc<Mutex<Option<(OwnedFd, OwnedFd)>>>;

/// Our side of a migration.
pub(super) struct Receiver {
    stream: PipeReader,
    theirs: Theirs,
    answer: PipeWriter,
    command: String,
}

impl Receiver {
    /// One that takes what is sent into `file`, which is there.
    pub(super) fn new(file: &Path) -> io::Result<Self> {
        let ((stream, to_us), (from_us, mut answer)) = (pipe()?, pipe()?);
        answer.write_all(BANNER)?;
        // By the time that xl runs it, what has these numbers may be something else.
        let of = |fd: &OwnedFd| -> io::Result<(String, String)> {
            let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
            Ok((path, format!("pipe:[{}]", rustix::fs::fstat(fd)?.st_ino)))
        };
        let (from_us, to_us) = (OwnedFd::from(from_us), OwnedFd::from(to_us));
        let ((answers, answer_pipe), (takes, take_pipe)) = (of(&from_us)?, of(&to_us)?);
        let command = format!(
            ": {}; test \"$(readlink {answers}) $(readlink {takes})\" = '{answer_pipe} {take_pipe}' || exit 1; cat <{answers} & exec \
             cat >>{takes}",
            quoted(file)
        );
        Ok(Self { stream, theirs: Arc::new(Mutex::new(Some((from_us, to_us)))), answer, command })
    }

    /// What xl is to run in the place of another host's xl. It names the file, by which the save is found.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// Takes what is sent, to its end.
    pub(super) fn take(self, file: &Path) -> io::Result<Taking> {
        let Self { stream, theirs, answer, .. } = self;
        let file = OpenOptions::new().write(true).truncate(true).open(file)?;
        let bytes = Arc::new(AtomicU64::new(0));
        let guard = GiveUp { theirs, given_up: Arc::default() };
        let (theirs, given_up) = (Arc::clone(&guard.theirs), Arc::clone(&guard.given_up));
        let job = Job { stream, theirs, file, bytes: Arc::clone(&bytes), given_up };
        let (tell, end) = oneshot::channel();
        std::thread::Builder::new().name("xlsnap-xl-save".to_owned()).spawn(move || tell.send(job.run()))?;
        Ok(Taking { end, bytes, _guard: guard, answer })
    }
}

/// A file's name as a word of the shell's.
pub(super) fn quoted(file: &Path) -> String {
    format!("'{}'", file.to_string_lossy().replace('\'', "'\\''"))
}

/// What is being taken.
pub(super) struct Taking {
    /// When the guest was stopped.
    pub(super) end: oneshot::Receiver<io::Result<Instant>>,
    /// The bytes that were taken.
    pub(super) bytes: Arc<AtomicU64>,
    _guard: GiveUp,
    answer: PipeWriter,
}

impl Taking {
    /// Ends it, unless it has ended; then xl lets the guest go on.
    fn give_up(self) -> oneshot::Receiver<io::Result<Instant>> {
        self.end
    }

    /// All was taken, and the guest stands still.
    pub(super) fn stopped(self, xl: Xl, running: Running) -> LiveSave {
        LiveSave { xl, running, answer: self.answer }
    }
}

/// Ends the taking when it is dropped; then xl lets the guest go on.
struct GiveUp {
    theirs: Theirs,
    given_up: Arc<AtomicBool>,
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        close(&self.theirs);
    }
}

fn close(theirs: &Theirs) {
    theirs.lock().unwrap_or_else(PoisonError::into_inner).take();
}

struct Job {
    stream: PipeReader,
    theirs: Theirs,
    file: File,
    bytes: Arc<AtomicU64>,
    given_up: Arc<AtomicBool>,
}

impl Job {
    fn run(self) -> io::Result<Instant> {
        let Self { mut stream, theirs, mut file, bytes, given_up } = self;
        let mut read = Stream::new(Instant::now());
        let mut chunk = vec![0; CHUNK];
        while !read.is_whole() {
            let some = stream.read(&mut chunk)?;
            // What came tells that xl has opened its ends.
            close(&theirs);
            if some == 0 || given_up.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "what xl sends ends early"));
            }
            read.read(&chunk[..some], Instant::now())
                .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("what xl sends: {why}")))?;
            file.write_all(&chunk[..some])?;
            bytes.fetch_add(some as u64, Ordering::Relaxed);
        }
        Ok(read.since())
    }
}

/// A save whose guest stands still until xl hears of us. Dropped, it lets the guest go on too.
pub(super) struct LiveSave {
    xl: Xl,
    running: Running,
    answer: PipeWriter,
}

#[async_trait]
impl Suspended for LiveSave {
    async fn resume(self: Box<Self>) -> Result<(), Error> {
        let Self { xl, mut running, answer } = *self;
        drop(answer);
        let deadline = Instant::now() + xl.limits().time;
        let ended = xl.wait(&mut running, || Instant::now() < deadline).await?;
        match ended {
            Some(ended) if ended.stderr.contains("resuming at sender") => Ok(()),
            Some(ended) => Err(failure(&running.command, &ended, Effect::Unknown)),
            None => {
                let message = format!("`{}` does not let the guest go on", running.command);
                Err(Error::new(Kind::TimedOut, Effect::Unknown, message))
            }
        }
    }
}
