//! What a guest that may be anything sends as its agent.

use serde_json::{Map, Value};
use xlsnap_guest_agent::Error;
use xlsnap_guest_agent::session::{Config, Session};

/// Of the number of the first sync, which the guest knows: it was sent to it.
const NONCE: u32 = 1;

/// A limit that short inputs reach.
const MAX_MESSAGE: usize = 64;

/// The bytes come from the guest while a command is open. The session takes any, says the same however they are cut, says it on
/// one line that is not long, and the next command is answered by its own answer.
pub fn agent_bytes(data: &[u8]) {
    for at_once in [true, false] {
        let whole = run(data, usize::MAX, at_once);
        if let Err(error) = &whole {
            let told = error.to_string();
            assert!(told.len() < 2000 && !told.contains(char::is_control), "{told}");
        }
        let piece = data.first().map_or(1, |&byte| usize::from(byte) % 37 + 1);
        let pieces = run(data, piece, at_once);
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"), "in pieces of {piece} bytes");
    }
}

/// How the command ends when the bytes come in such pieces, and then no more.
fn run(data: &[u8], piece: usize, at_once: bool) -> Result<Value, Error> {
    let mut config = Config::new("fuzz", NONCE);
    config.max_message = MAX_MESSAGE;
    let mut session = Session::new(config);
    let start = if at_once { Session::call_at_once } else { Session::call };
    start(&mut session, "first", &Map::new()).expect("it is open");
    while session.poll_transmit().is_some() {}
    for bytes in data.chunks(piece) {
        session.handle_input(bytes);
    }
    let outcome = session.poll_reply().unwrap_or_else(|| Err(session.give_up()));

    session.call("second", &Map::new()).expect("it is open");
    let mut sent = Vec::new();
    while let Some(bytes) = session.poll_transmit() {
        sent.extend_from_slice(&bytes);
    }
    // In sync the command alone is sent, else what syncs.
    if let Some(sync) = sent.strip_prefix(b"\xff") {
        let sync: Value = serde_json::from_slice(sync).expect("it is a command");
        let number = &sync["arguments"]["id"];
        session.handle_input(&[b"\xff", format!("{{\"return\": {number}}}\n").as_bytes()].concat());
        assert!(session.poll_transmit().is_some(), "it is in sync");
    }
    session.handle_input(b"{\"return\": \"ours\"}\n");
    let second = session.poll_reply().expect("it is answered").expect("it is no error");
    assert_eq!(second, "ours");
    outcome
}
