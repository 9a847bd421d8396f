//! Cuts a stream of bytes into messages.

use super::wire::{HEADER, Header, MAX_REPLY};

/// A header announced a payload of this length, beyond [`MAX_REPLY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong(pub(super) u32);

/// The start of a message whose end has not come: at most a header and its payload.
#[derive(Debug, Default)]
pub(super) struct Framer {
    partial: Vec<u8>,
}

impl Framer {
    /// Whether a message has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Takes bytes off `input` up to the end of the next message, and gives it; `None` when `input` is used up before.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<(Header, Vec<u8>)>, TooLong> {
        if !self.fill(input, HEADER) {
            return Ok(None);
        }
        let header = self.partial.first_chunk().map(Header::decode).expect("it was filled up to a header");
        let length = usize::try_from(header.length).ok().filter(|&length| length <= MAX_REPLY);
        let length = length.ok_or(TooLong(header.length))?;
        if !self.fill(input, HEADER + length) {
            return Ok(None);
        }
        let payload = self.partial.split_off(HEADER);
        self.partial.clear();
        Ok(Some((header, payload)))
    }

    /// Moves bytes from `input` until there are `wanted` of them, and says whether there are.
    fn fill(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.partial.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.partial.extend_from_slice(taken);
        *input = rest;
        self.partial.len() >= wanted
    }
}
