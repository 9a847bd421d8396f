//! How a memory file is packed.

use std::io::{self, BufRead, Write};

/// The beginning of a zstd frame (RFC 8878, 3.1.1).
pub(crate) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How much of the stream a packed file may make its reader remember, as a power of 2: what level 1 makes needs less.
const WINDOW_LOG: u32 = 27;

/// How a memory file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Packing {
    /// Not at all: as it came from the hypervisor.
    #[default]
    None,
    /// One zstd frame (RFC 8878).
    Zstd,
}

/// The fastest level: memory is packed while a guest waits for it, or may. The hypervisor's own thread is busy meanwhile, so the packing
/// gets another one.
pub(crate) fn packer<W: Write>(file: W) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut packer = zstd::stream::write::Encoder::new(file, 1)?;
    packer.multithread(1)?;
    Ok(packer)
}

/// The stream that a packed file holds.
pub(crate) fn unpacker<R: BufRead>(file: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut unpacker = zstd::stream::read::Decoder::with_buffer(file)?;
    unpacker.window_log_max(WINDOW_LOG)?;
    Ok(unpacker)
}
