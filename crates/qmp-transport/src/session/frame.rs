//! Cuts a stream of bytes into JSON objects.
//!
//! By brackets, not by lines: QEMU ends a message with CRLF, but a monitor with `pretty=on` has line ends inside of
//! a message too. What is between the brackets is left to the JSON parser.

use std::borrow::Cow;

/// The deepest nesting that is passed on; serde_json refuses 128.
const MAX_DEPTH: u32 = 127;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameError {
    /// A message is longer than the limit.
    TooLarge,
    /// A message is nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// This byte cannot start a message.
    Garbage(u8),
}

#[derive(Debug)]
pub(super) struct Framer {
    /// The start of a message whose end has not come; never longer than `max`.
    partial: Vec<u8>,
    max: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    pub(super) fn new(max: usize) -> Self {
        Self { partial: Vec::new(), max, depth: 0, in_string: false, escaped: false }
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        self.depth > 0
    }

    /// Takes bytes off `input` up to the end of the next message, and gives the message; `None` when `input` is used
    /// up before.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, FrameError> {
        if !self.is_partial() {
            *input = input.trim_ascii_start();
            match input.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(&other) => return Err(FrameError::Garbage(other)),
            }
        }
        let bytes = *input;
        let room = self.max - self.partial.len();
        let window = &bytes[..bytes.len().min(room)];
        match self.end_of_message(window)? {
            Some(end) => {
                *input = &bytes[end..];
                if self.partial.is_empty() {
                    return Ok(Some(Cow::Borrowed(&bytes[..end])));
                }
                let mut message = std::mem::take(&mut self.partial);
                message.extend_from_slice(&bytes[..end]);
                Ok(Some(Cow::Owned(message)))
            }
            None if window.len() == room => Err(FrameError::TooLarge),
            None => {
                self.partial.extend_from_slice(window);
                *input = &[];
                Ok(None)
            }
        }
    }

    /// The index after the bracket that closes the message, when it is in `bytes`.
    fn end_of_message(&mut self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        for (index, &byte) in bytes.iter().enumerate() {
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                match byte {
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' if self.depth == MAX_DEPTH => return Err(FrameError::TooDeep),
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return Ok(Some(index + 1));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
