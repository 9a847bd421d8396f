//! From a file: to verify it, or to hand it to a QEMU, unpacked.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use xlsnap_types::model::Compression;

use super::checksum::Summed;
use super::worker::{Shared, Worker};

const CHUNK: usize = 512 << 10;

/// How much of the stream a packed file may make its reader remember, as a power of 2: what level 1 makes needs less.
const WINDOW_LOG: u32 = 27;

/// Opens a memory file to read it.
///
/// # Errors
/// Also of a symbolic link, and of what is no regular file: nothing else was ever saved.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

/// What was read of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) checksum: String,
}

/// Sums a whole file up.
pub(super) fn summing(file: File) -> io::Result<Worker<io::Result<Sum>>> {
    Worker::start(move |shared| sum(file, shared))
}

fn sum(file: File, shared: &Shared) -> io::Result<Sum> {
    let mut file = Summed::new(file);
    let mut buffer = vec![0; CHUNK];
    while file.read(&mut buffer)? > 0 {
        shared.set_moved(file.sum.bytes());
        if shared.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(Sum { bytes: file.sum.bytes(), checksum: file.sum.text() })
}

/// Why a file did not go to QEMU as a whole.
#[derive(Debug)]
pub(super) enum Unfed {
    /// It cannot be read, or not unpacked.
    File(io::Error),
    /// QEMU took no more of it.
    Stream(io::Error),
}

/// Hands a whole file to `stream`, unpacked, and sums up what it was.
pub(super) fn feeding(
    file: File,
    compression: Compression,
    stream: UnixStream,
) -> io::Result<Worker<Result<Sum, Unfed>>> {
    Worker::start(move |shared| {
        let result = feed(file, compression, &stream, shared);
        // The end of the stream is a part of it.
        let _ = stream.shutdown(Shutdown::Both);
        result
    })
}

fn feed(file: File, compression: Compression, stream: &UnixStream, shared: &Shared) -> Result<Sum, Unfed> {
    let mut file = BufReader::with_capacity(CHUNK, Summed::new(file));
    match compression {
        Compression::None => pass(&mut file, stream, shared, |file| file.get_ref().sum.bytes())?,
        _ => {
            let mut unpacked = unpacker(&mut file).map_err(Unfed::File)?;
            pass(&mut unpacked, stream, shared, |from| from.get_ref().get_ref().sum.bytes())?;
        }
    }
    let sum = &file.get_ref().sum;
    Ok(Sum { bytes: sum.bytes(), checksum: sum.text() })
}

/// `done` is how much of the file has been read.
fn pass<R: Read>(
    from: &mut R,
    mut stream: &UnixStream,
    shared: &Shared,
    done: impl Fn(&R) -> u64,
) -> Result<(), Unfed> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).map_err(Unfed::File)?;
        if read == 0 {
            return Ok(());
        }
        if shared.is_cancelled() {
            return Err(Unfed::Stream(io::ErrorKind::ConnectionAborted.into()));
        }
        stream.write_all(&buffer[..read]).map_err(Unfed::Stream)?;
        shared.set_moved(done(from));
    }
}

/// The stream that a packed file holds.
pub(super) fn unpacker<R: io::BufRead>(file: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut unpacker = zstd::stream::read::Decoder::with_buffer(file)?;
    unpacker.window_log_max(WINDOW_LOG)?;
    Ok(unpacker)
}
