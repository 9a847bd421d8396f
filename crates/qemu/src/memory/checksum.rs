//! The checksum of a memory file: over its bytes as they are stored.

use std::io::{self, Read, Write};

use twox_hash::xxhash3_128::Hasher;

/// The algorithm's name in a record.
const ALGORITHM: &str = "xxh3-128";

/// A checksum in the making.
pub(super) struct Checksum {
    hasher: Hasher,
    bytes: u64,
}

impl Checksum {
    pub(super) fn new() -> Self {
        Self { hasher: Hasher::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes it is of.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As it is recorded: the algorithm, a colon, hexadecimal digits.
    pub(super) fn text(&self) -> String {
        format!("{ALGORITHM}:{:032x}", self.hasher.finish_128())
    }
}

/// Whether a recorded checksum is of a kind that is known here.
pub(super) fn is_known(recorded: &str) -> bool {
    recorded.split_once(':').is_some_and(|(algorithm, _)| algorithm == ALGORITHM)
}

/// What passes through on its way to or from a file.
pub(super) struct Summed<T> {
    pub(super) inner: T,
    pub(super) sum: Checksum,
}

impl<T> Summed<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, sum: Checksum::new() }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.sum.add(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_algorithms() {
        // The reference implementation's value of no bytes (xxHash, XXH3_128bits with seed 0).
        assert_eq!(Checksum::new().text(), "xxh3-128:99aa06d3014798d86001c324468d497f");
        let mut summed = Summed::new(Vec::new());
        summed.write_all(b"QEVM").unwrap();
        let mut whole = Checksum::new();
        whole.add(b"QE");
        whole.add(b"VM");
        assert_eq!((summed.sum.text(), summed.sum.bytes()), (whole.text(), 4));
        assert!(is_known(&whole.text()) && !is_known("sha256:00") && !is_known("xxh3-128"));
    }
}
