//! Recorded transcripts of real QEMU, replayed through a session.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use xlsnap_qmp_transport::session::{Config, Output, Session};

pub(crate) enum Line {
    Sent(Value),
    Received(String),
    Closed,
}

/// Every transcript by its file name.
pub(crate) fn all() -> Vec<(String, Vec<Line>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(
        files.len() >= 8,
        "two programs of QEMU 11.1, 10.0 and 7.2, and 7.2 with both kinds of Xen guests"
    );
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        (file.file_name().unwrap().to_str().unwrap().to_owned(), text.lines().filter_map(line).collect())
    };
    files.iter().map(read).collect()
}

fn line(text: &str) -> Option<Line> {
    match text.split_at(2) {
        ("->", message) => Some(Line::Sent(serde_json::from_str(message).unwrap())),
        ("<-", message) => Some(Line::Received(format!("{}\r\n", message.trim_start()))),
        ("!!", _) => Some(Line::Closed),
        _ => None,
    }
}

/// Replays a transcript; `split` cuts what is received into the pieces in which it comes. Gives what the session said at each line.
fn replay(lines: &[Line], split: impl Fn(&[u8]) -> Vec<&[u8]>) -> Vec<Vec<String>> {
    let now = Instant::now();
    let mut session = Session::new(Config::new("qmp", 0), now);
    let mut play = |line: &Line| {
        match line {
            Line::Sent(expected) => {
                if !is_negotiation(expected) {
                    let arguments = expected["arguments"].as_object().cloned().unwrap_or_default();
                    let deadline = Some(now + Duration::from_secs(1));
                    session.send(expected["execute"].as_str().unwrap(), &arguments, deadline).unwrap();
                }
                let message = session.poll_transmit().expect("it sends when the recording did");
                assert_eq!(message.last(), Some(&b'\n'));
                assert_eq!(serde_json::from_slice::<Value>(&message).unwrap(), *expected);
                assert_eq!(session.poll_transmit(), None);
            }
            Line::Received(text) => {
                for piece in split(text.as_bytes()) {
                    session.handle_input(now, piece);
                }
            }
            Line::Closed => session.handle_close(None),
        }
        std::iter::from_fn(|| session.poll_output()).map(|output| format!("{output:?}")).collect()
    };
    let said = lines.iter().map(&mut play).collect();
    assert_eq!((session.unanswered(), session.poll_timeout()), (0, None), "every call ended");
    said
}

fn is_negotiation(sent: &Value) -> bool {
    sent["id"] == "0000000000000000.0"
}

#[test]
fn every_reply_reaches_its_call() {
    for (name, lines) in all() {
        let said: Vec<_> = replay(&lines, |bytes| vec![bytes]).into_iter().flatten().collect();
        let count = |what: &str| said.iter().filter(|said| said.starts_with(what)).count();
        let sent = lines.iter().filter(|line| matches!(line, Line::Sent(_))).count();
        assert_eq!((count("Greeting"), count("Negotiated")), (1, 1), "{name}");
        assert_eq!(count("Reply"), sent - 1, "{name}: all but qmp_capabilities");
        assert_eq!(count("Dropped"), 0, "{name}");
        let closed = lines.iter().filter(|line| matches!(line, Line::Closed)).count();
        assert_eq!(count("Closed"), closed, "{name}");
        let events = lines.iter().filter(|line| match line {
            Line::Received(text) => serde_json::from_str::<Value>(text).unwrap().get("event").is_some(),
            _ => false,
        });
        assert_eq!(count("Event"), events.count(), "{name}");
    }
}

#[test]
fn byte_by_byte_changes_nothing() {
    for (name, lines) in all() {
        assert_eq!(
            replay(&lines, |bytes| bytes.chunks(1).collect()),
            replay(&lines, |bytes| vec![bytes]),
            "{name}"
        );
    }
}

#[test]
fn a_split_at_any_byte_of_the_handshake_changes_nothing() {
    let greets = |line: &Line| matches!(line, Line::Received(text) if text.starts_with("{\"QMP\""));
    for (name, lines) in all() {
        assert!(greets(&lines[0]));
        let handshake = &lines[..3];
        let expected = replay(handshake, |bytes| vec![bytes]);
        assert!(expected[2][0].starts_with("Negotiated"), "{name}");
        for at in 0..200 {
            let cut = |bytes: &[u8]| at.min(bytes.len());
            let found = replay(handshake, |bytes| vec![&bytes[..cut(bytes)], &bytes[cut(bytes)..]]);
            assert_eq!(found, expected, "{name}, split at {at}");
        }
    }
}

/// One session hears every line once for each place at which it is split; replies with the id of a new call. Long
/// lines are split near their ends: the framer's own tests split them everywhere.
#[test]
fn a_split_at_any_byte_changes_nothing() {
    for (name, lines) in all() {
        let now = Instant::now();
        let mut session = Session::new(Config::new("qmp", 0), now);
        for line in &lines[..3] {
            if let Line::Received(text) = line {
                session.handle_input(now, text.as_bytes());
            }
            session.poll_transmit();
        }
        while session.poll_output().is_some() {}
        for line in &lines[3..] {
            let Line::Received(text) = line else { continue };
            let message: Value = serde_json::from_str(text).unwrap();
            let id = message["id"].as_str();
            for at in (0..text.len()).filter(|at| *at < 300 || text.len() - at < 300) {
                let mut heard = text.clone();
                if let Some(id) = id {
                    let call = session.send("x", &Map::new(), None).unwrap();
                    session.poll_transmit().unwrap();
                    heard = heard.replace(id, &format!("0000000000000000.{call}"));
                }
                let (left, right) = heard.as_bytes().split_at(at);
                session.handle_input(now, left);
                session.handle_input(now, right);
                let said = session.poll_output();
                let as_recorded = match said.as_ref() {
                    Some(Output::Reply { result: Ok(value), .. }) => *value == message["return"],
                    Some(Output::Reply { result: Err(error), .. }) => {
                        error.to_string() == format!("x: {}", message["error"]["desc"].as_str().unwrap())
                    }
                    Some(Output::Event(event)) => event.name == message["event"].as_str().unwrap(),
                    _ => false,
                };
                assert!(as_recorded, "{name}: {text} split at {at}: {said:?}");
                assert!(session.poll_output().is_none());
            }
        }
        assert_eq!(session.unanswered(), 0);
    }
}

#[test]
fn errors_are_as_measured() {
    let mut descriptions = Vec::new();
    for (name, lines) in all().into_iter().filter(|(name, _)| !name.contains("xen")) {
        let now = Instant::now();
        let mut session = Session::new(Config::new("qmp", 0), now);
        for line in &lines {
            match line {
                Line::Sent(sent) if !is_negotiation(sent) => {
                    let arguments = sent["arguments"].as_object().cloned().unwrap_or_default();
                    session.send(sent["execute"].as_str().unwrap(), &arguments, None).unwrap();
                }
                Line::Received(text) => session.handle_input(now, text.as_bytes()),
                _ => {}
            }
            let _ = session.poll_transmit();
            while let Some(output) = session.poll_output() {
                if let Output::Reply { result: Err(error), .. } = output {
                    descriptions.push((name.clone(), error.class().unwrap().to_owned(), error.to_string()));
                }
            }
        }
    }
    for (class, text) in [
        ("CommandNotFound", "nosuch: The command nosuch has not been found"),
        (
            "GenericError",
            "blockdev-snapshot-internal-sync: Snapshot with name 's1' already exists on device 'd0'",
        ),
        ("GenericError", "blockdev-snapshot-internal-sync: Name is empty"),
        ("GenericError", "blockdev-snapshot-internal-sync: Device 'ro0' is read only"),
        ("GenericError", "transaction: Cannot find device='nope' nor node-name='nope'"),
        ("DeviceNotFound", "block-commit: Device 'nope' not found"),
    ] {
        let said = |(_, c, t): &&(String, String, String)| c == class && t == text;
        let programs: BTreeSet<&String> = descriptions.iter().filter(said).map(|(name, ..)| name).collect();
        assert_eq!(programs.len(), 6, "{class}: {text}: {descriptions:#?}");
    }
}
