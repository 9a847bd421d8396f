//! The checksum of a memory file: over its bytes as they are stored.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use twox_hash::xxhash3_128::Hasher;

use crate::{Effect, Error, Kind};

/// The algorithm's name in a record.
const ALGORITHM: &str = "xxh3-128";

/// The checksum of a memory file, which is written as `xxh3-128:` and 32 hexadecimal digits. It finds damage, not forgery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(u128);

impl Checksum {
    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut summing = Summing::new();
        summing.add(bytes);
        summing.checksum()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{:032x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = Error;

    /// Reads what [`Checksum`]'s `Display` writes; the digits may be capitals.
    ///
    /// # Errors
    /// [`Kind::Refused`] for another algorithm, and for what is no checksum.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(':'));
        digits
            .filter(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u128::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| {
                let message = format!("the checksum {text:?} is none that is known here ({ALGORITHM})");
                Error::new(Kind::Refused, Effect::None, message)
            })
    }
}

/// A checksum in the making.
pub(crate) struct Summing {
    hasher: Hasher,
    bytes: u64,
}

impl Summing {
    pub(crate) fn new() -> Self {
        Self { hasher: Hasher::new(), bytes: 0 }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes it is of.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn checksum(&self) -> Checksum {
        Checksum(self.hasher.finish_128())
    }

    pub(crate) fn sum(&self) -> Sum {
        Sum { bytes: self.bytes, checksum: self.checksum() }
    }
}

/// What was read or written: how many bytes, and their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    pub(crate) checksum: Checksum,
}

/// What passes through on its way to or from a file.
pub(crate) struct Summed<T> {
    pub(crate) inner: T,
    pub(crate) sum: Summing,
}

impl<T> Summed<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, sum: Summing::new() }
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
        assert_eq!(Checksum::of(b"").to_string(), "xxh3-128:99aa06d3014798d86001c324468d497f");
        let mut summed = Summed::new(Vec::new());
        summed.write_all(b"QE").unwrap();
        summed.write_all(b"VM").unwrap();
        assert_eq!(summed.sum.sum(), Sum { bytes: 4, checksum: Checksum::of(b"QEVM") });
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let sum = Checksum::of(b"QEVM");
        let text = sum.to_string();
        assert_eq!(text.parse::<Checksum>().unwrap(), sum);
        let capitals = format!("xxh3-128:{}", text["xxh3-128:".len()..].to_uppercase());
        assert_eq!(capitals.parse::<Checksum>().unwrap(), sum);
        for wrong in
            ["", "xxh3-128", "xxh3-128:", "xxh3-128:+1", "sha256:00", &text[..40], &format!("{text}0")]
        {
            assert_eq!(wrong.parse::<Checksum>().unwrap_err().kind(), Kind::Refused, "{wrong}");
        }
    }
}
