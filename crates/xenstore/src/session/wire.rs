//! Numbers and headers of the wire.

/// The longest payload of a message, in bytes: `XENSTORE_PAYLOAD_MAX`. xenstored closes the connection on a longer one.
pub const MAX_PAYLOAD: usize = 4096;

/// The longest payload that is taken, in bytes. oxenstored 4.17 lists a directory of any length in one message, which Xen's
/// own client cannot read.
pub const MAX_REPLY: usize = 1 << 20;

/// The length of a header, in bytes.
pub(super) const HEADER: usize = 16;

/// The types of messages that this client uses, as numbered on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Type {
    Directory = 1,
    Read = 2,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    GetDomainPath = 10,
    Write = 11,
    Mkdir = 12,
    Rm = 13,
    WatchEvent = 15,
    Error = 16,
    DirectoryPart = 22,
}

/// What precedes each payload: four numbers, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// A [`Type`], or any other number.
    pub(super) kind: u32,
    /// The number of the request; 0 of an event.
    pub(super) id: u32,
    /// The number of the transaction; 0 outside.
    pub(super) transaction: u32,
    /// The length of the payload, in bytes.
    pub(super) length: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let numbers = [self.kind, self.id, self.transaction, self.length];
        for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { kind: number(0), id: number(4), transaction: number(8), length: number(12) }
    }
}
