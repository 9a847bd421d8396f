//! The session alone: which answers it takes, which it drops, and what it says when there is none.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use xlsnap_guest_agent::session::{Config, Session};
use xlsnap_guest_agent::{Effect, Error, Kind};

const NONCE: u32 = 0xdead_beef;

fn session() -> Session {
    Session::new(Config::new("vm.qga", NONCE))
}

/// The number of the session's `n`-th `guest-sync-delimited`.
fn number(n: i64) -> i64 {
    (i64::from(NONCE) << 16) | n
}

fn synced(n: i64) -> Vec<u8> {
    [b"\xff".as_slice(), format!("{{\"return\": {}}}\n", number(n)).as_bytes()].concat()
}

fn sent(session: &mut Session) -> Vec<u8> {
    std::iter::from_fn(|| session.poll_transmit()).flatten().collect()
}

fn call(session: &mut Session, command: &str) {
    session.call(command, &Map::new()).unwrap();
}

/// A session that is in sync, and has sent `command`.
fn asked(command: &str) -> Session {
    let mut session = session();
    call(&mut session, command);
    sent(&mut session);
    session.handle_input(&synced(1));
    sent(&mut session);
    session
}

fn value(session: &mut Session) -> Value {
    session.poll_reply().unwrap().unwrap()
}

fn error(session: &mut Session) -> Error {
    session.poll_reply().unwrap().unwrap_err()
}

#[test]
fn nothing_but_the_sync_goes_to_one_who_has_not_answered() {
    let mut session = session();
    call(&mut session, "guest-fsfreeze-freeze");
    let first = sent(&mut session);
    assert_eq!(first[0], 0xff);
    let sync: Value = serde_json::from_slice(&first[1..]).unwrap();
    assert_eq!(sync, json!({"execute": "guest-sync-delimited", "arguments": {"id": number(1)}}));
    // Answers to other clients, which are in sync with them.
    session.handle_input(b"{\"return\": 3}\n\xff{\"return\": 4}\n");
    assert!(sent(&mut session).is_empty());
    session.handle_input(&synced(1));
    assert_eq!(sent(&mut session), b"{\"execute\":\"guest-fsfreeze-freeze\"}\n");
    session.handle_input(b"{\"return\": 2}\n");
    assert_eq!(value(&mut session), json!(2));
    // It stays in sync.
    session.call("guest-exec", &Map::from_iter([("path".to_owned(), json!("a\nb"))])).unwrap();
    let line = sent(&mut session);
    let command: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(command, json!({"execute": "guest-exec", "arguments": {"path": "a\nb"}}));
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "a command is a line");
}

#[test]
fn what_is_sent_at_once_is_answered_behind_the_sync() {
    let mut session = session();
    session.call_at_once("guest-fsfreeze-thaw", &Map::new()).unwrap();
    let bytes = sent(&mut session);
    let lines: Vec<&[u8]> = bytes[1..].split(|byte| *byte == b'\n').collect();
    assert_eq!(lines[1..], [b"{\"execute\":\"guest-fsfreeze-thaw\"}".as_slice(), b""]);
    // The answer to the freeze that was given up, then ours.
    session.handle_input(b"{\"return\": 1}\n");
    session.handle_input(&[synced(1).as_slice(), b"{\"return\": 7}\n"].concat());
    assert_eq!(value(&mut session), json!(7));
}

/// What may come before the answer to our sync.
const NOISE: [&[u8]; 9] = [
    b"",
    b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray '\\uFFFD'\"}}\n",
    b"{\"return\": 1}\n\xff{\"return\": 12}\n{\"return\": {}}\n",
    b"\xff{\"return\": \"12\"}\n\xff{\"return\": {\"a\": [1]}}\n",
    b"\xff{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n",
    b"\xff{\"retu",
    b"\xff\xff\xff",
    b"[    0.000000] Linux version\r\nlogin: \x00\x1b[2J",
    b"\xffno JSON\n{{{{{{\n",
];

#[test]
fn noise_before_the_sync_is_dropped_wherever_it_is_cut() {
    for noise in NOISE {
        let bytes = [noise, &synced(1), b"\r\n{\"return\": 5}\r\n"].concat();
        for cut in 0..=bytes.len() {
            let mut session = session();
            session.call_at_once("guest-ping", &Map::new()).unwrap();
            sent(&mut session);
            for part in [&bytes[..cut], &bytes[cut..]] {
                session.handle_input(part);
            }
            let reply = session.poll_reply().unwrap_or_else(|| panic!("{noise:?} cut at {cut}: {session:?}"));
            assert_eq!(reply.unwrap(), json!(5));
        }
    }
}

#[test]
fn a_call_that_was_given_up_is_not_answered_by_what_comes_late() {
    let mut session = asked("guest-fsfreeze-freeze");
    let error = session.give_up();
    assert_eq!((error.kind(), error.effect()), (Kind::TimedOut, Effect::Unknown));
    assert!(error.to_string().contains("guest-fsfreeze-freeze: the agent at vm.qga did not answer in time"));
    session.handle_input(b"{\"return\": 3}\n");
    assert!(session.poll_reply().is_none());
    call(&mut session, "guest-fsfreeze-status");
    assert_eq!(sent(&mut session)[0], 0xff, "it syncs anew");
    // The answers to all that was sent before.
    session.handle_input(b"{\"return\": 9}\n");
    session.handle_input(&synced(1));
    session.handle_input(b"{\"return\": 9}\n");
    assert!(session.poll_reply().is_none() && sent(&mut session).is_empty());
    session.handle_input(&synced(2));
    assert_eq!(sent(&mut session), b"{\"execute\":\"guest-fsfreeze-status\"}\n");
    session.handle_input(b"{\"return\": \"frozen\"}\n");
    assert_eq!(value(&mut session), json!("frozen"));

    // A call in the middle of another, as after a future that was dropped.
    call(&mut session, "guest-ping");
    sent(&mut session);
    call(&mut session, "guest-info");
    assert_eq!(sent(&mut session)[0], 0xff);
}

#[test]
fn silence_and_noise_are_told_apart() {
    let mut silent = session();
    call(&mut silent, "guest-fsfreeze-freeze");
    sent(&mut silent);
    let error = silent.give_up();
    assert_eq!((error.kind(), error.effect()), (Kind::Silent, Effect::None));
    assert!(error.to_string().ends_with("it was not sent"), "{error}");

    let mut late = session();
    late.call_at_once("guest-fsfreeze-thaw", &Map::new()).unwrap();
    sent(&mut late);
    let error = late.give_up();
    assert_eq!((error.kind(), error.effect()), (Kind::Silent, Effect::Unknown));

    let mut noisy = session();
    call(&mut noisy, "guest-fsfreeze-freeze");
    sent(&mut noisy);
    noisy.handle_input(b"login: \x1b[1m\n");
    noisy.handle_input(&[b'x'; 5000]);
    let error = noisy.give_up();
    assert_eq!((error.kind(), error.effect()), (Kind::Protocol, Effect::None));
    let told = error.to_string();
    assert!(told.contains("5012 bytes") && told.contains(r"login: \u{1b}[1m\nxxx"), "{told}");
    assert!(told.len() < 500 && !told.contains('\n'), "{told}");
}

#[test]
fn an_error_of_the_agent_tells_its_effect() {
    let cases = [
        (r#"{"error": {"class": "CommandNotFound", "desc": "it has been disabled"}}"#, Effect::None),
        (r#"{"error": {"class": "GenericError", "desc": "failed to freeze /"}}"#, Effect::Unknown),
        (r#"{"error": {"desc": 3}, "return": 1}"#, Effect::Unknown),
    ];
    for (line, effect) in cases {
        let mut session = asked("guest-fsfreeze-freeze");
        session.handle_input(format!("{line}\n").as_bytes());
        let error = error(&mut session);
        assert_eq!((error.kind(), error.effect()), (Kind::Rejected, effect), "{error}");
        assert!(error.to_string().starts_with("guest-fsfreeze-freeze: "), "{error}");
        // It is still in sync.
        call(&mut session, "guest-ping");
        assert_eq!(sent(&mut session)[0], b'{');
    }
}

#[test]
fn what_is_no_answer_ends_the_call_and_not_the_session() {
    let long = vec![b' '; Config::DEFAULT_MAX_MESSAGE + 1];
    let deep = [b"{\"return\": ".as_slice(), &[b'['; 1000], b"\n"].concat();
    let cases: [&[u8]; 6] =
        [b"hello\n", b"{\"event\": \"X\"}\n", b"7\n", b"\xff{\"return\": 1}\n", &long, &deep];
    for bytes in cases {
        let mut session = asked("guest-fsfreeze-freeze");
        session.handle_input(bytes);
        let error = error(&mut session);
        assert_eq!((error.kind(), error.effect()), (Kind::Protocol, Effect::Unknown), "{error}");
        assert!(error.to_string().len() < 500);
        call(&mut session, "guest-ping");
        sent(&mut session);
        session.handle_input(&synced(2));
        sent(&mut session);
        session.handle_input(b"{\"return\": {}}\n");
        assert_eq!(value(&mut session), json!({}));
    }
}

#[test]
fn an_answer_to_no_request_ends_the_sync() {
    let mut session = asked("guest-ping");
    session.handle_input(b"{\"return\": {}}\n\r\n");
    value(&mut session);
    session.handle_input(b"\n{\"return\": 1}\n");
    call(&mut session, "guest-fsfreeze-freeze");
    assert_eq!(sent(&mut session)[0], 0xff);
    // Between the call and its sending too.
    let mut session = asked("guest-ping");
    session.handle_input(b"{\"return\": {}}\n");
    value(&mut session);
    call(&mut session, "guest-fsfreeze-freeze");
    session.handle_input(b"{\"return\": 1}\n");
    assert_eq!(sent(&mut session)[0], 0xff);
    assert!(session.poll_reply().is_none());
}

#[test]
fn a_connection_that_closes_tells_whether_it_was_sent() {
    let mut before = session();
    call(&mut before, "guest-fsfreeze-freeze");
    sent(&mut before);
    before.handle_close(None);
    let lost = error(&mut before);
    assert_eq!((lost.kind(), lost.effect()), (Kind::Disconnected, Effect::None));
    let after_all = before.call("guest-ping", &Map::new()).unwrap_err();
    assert_eq!((after_all.kind(), after_all.effect()), (Kind::Disconnected, Effect::None));

    let mut after = asked("guest-fsfreeze-freeze");
    after.handle_input(b"{\"ret");
    after.handle_close(Some(std::io::ErrorKind::ConnectionReset.into()));
    let lost = error(&mut after);
    assert_eq!((lost.kind(), lost.effect()), (Kind::Disconnected, Effect::Unknown));
    assert!(std::error::Error::source(&lost).is_some());
}

proptest! {
    /// Whatever comes, in whatever pieces, is survived, and the agent's answer behind it is found.
    #[test]
    fn any_bytes_are_survived(
        noise in proptest::collection::vec(
            prop_oneof![
                any::<Vec<u8>>(),
                Just(b"\xff{\"return\": 1}\n".to_vec()),
                Just(b"{\"return\": 1}\n".to_vec()),
                Just(vec![0xff]),
                Just(vec![b'{'; 300]),
            ],
            0..8,
        ),
        pieces in 1_usize..40,
    ) {
        let mut config = Config::new("vm.qga", NONCE);
        config.max_message = 200;
        let mut session = Session::new(config);
        call(&mut session, "guest-ping");
        sent(&mut session);
        let noise = noise.concat();
        // What ends in the middle of an answer to another client's sync would swallow the mark of ours no more than a line end does.
        let bytes = [&noise, b"\n".as_slice(), &synced(1)].concat();
        for piece in bytes.chunks(pieces) {
            session.handle_input(piece);
        }
        prop_assert_eq!(sent(&mut session), b"{\"execute\":\"guest-ping\"}\n");
        session.handle_input(b"{\"return\": {}}\n");
        prop_assert_eq!(value(&mut session), json!({}));
    }
}
