use std::path::Path;

use super::{FrameError, Framer};

/// Feeds the pieces and gives the messages.
fn frame<'a>(max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut framer = Framer::new(max);
    let mut messages = Vec::new();
    for mut piece in pieces {
        while let Some(message) = framer.next(&mut piece)? {
            messages.push(message.into_owned());
        }
        assert!(framer.partial.len() < max.max(1), "no more than a message is kept");
    }
    Ok(messages)
}

/// Every line that was recorded, also the long ones, for which the replay through a session splits only near the ends.
#[test]
fn recorded_lines_split_anywhere() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut count = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("<- ")) {
            let bytes = format!("{line}\r\n").into_bytes();
            let expected = Ok(vec![line.as_bytes().to_vec()]);
            for at in 0..=bytes.len() {
                let (left, right) = bytes.split_at(at);
                assert_eq!(frame(1 << 20, [left, right]), expected, "{line} split at {at}");
            }
            assert_eq!(frame(1 << 20, bytes.chunks(1)), expected);
            count += 1;
        }
    }
    assert!(count > 150, "{count} lines");
}

#[test]
fn brackets_in_strings_are_text() {
    let text: &[u8] = br#" {"a\"}": "}]\\", "b": [{}, "{"]}{"c":1}"#;
    let expected = vec![br#"{"a\"}": "}]\\", "b": [{}, "{"]}"#.to_vec(), br#"{"c":1}"#.to_vec()];
    assert_eq!(frame(100, [text]).as_ref(), Ok(&expected));
    assert_eq!(frame(100, text.chunks(1)), Ok(expected));
}

#[test]
fn the_limit_counts_the_message_alone() {
    let message = b"{\"a\": 1}";
    let padded = [b" \r\n ".as_slice(), message, b"\r\n"].concat();
    for size in 1..padded.len() {
        assert_eq!(frame(message.len(), padded.chunks(size)), Ok(vec![message.to_vec()]), "{size}");
        assert_eq!(frame(message.len() - 1, padded.chunks(size)), Err(FrameError::TooLarge), "{size}");
    }
}

#[test]
fn only_an_object_starts_a_message() {
    for (text, byte) in [("x{}", b'x'), ("[1]", b'['), ("{} }", b'}'), ("\u{feff}{}", 0xef), ("\0", 0)] {
        assert_eq!(frame(100, [text.as_bytes()]), Err(FrameError::Garbage(byte)), "{text:?}");
    }
    assert_eq!(frame(1000, ["{\"a\":".repeat(128).as_bytes()]), Err(FrameError::TooDeep));
}
