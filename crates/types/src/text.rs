//! Places in untrusted texts, for messages.

/// The line and the character within it, both from 1, of the byte `at`.
pub(crate) fn position(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let column = 1 + before[start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
    (line, column)
}

/// The start of a string, short enough to stand in a message.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
