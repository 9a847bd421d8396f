//! The client, on a peer that follows a script.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, pause};
use xlsnap_guest_agent::{Client, Effect, Kind, Status};

const BOUND: Duration = Duration::from_secs(5);

/// What the peer does when it has read a line.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Answers a sync as an agent does: it complains of the mark first.
    Syncs,
    /// Says this.
    Says(&'static str),
    /// Nothing.
    Waits,
    /// Closes the connection.
    Closes,
}

/// A client, and the commands that the peer heard until the script's end, or the client's.
fn talk(script: &'static [Does]) -> (Client<DuplexStream>, JoinHandle<Vec<String>>) {
    let (ours, theirs) = tokio::io::duplex(4096);
    (Client::from_stream(ours, "vm.qga"), tokio::spawn(play(theirs, script)))
}

async fn play(stream: DuplexStream, script: &[Does]) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut heard = Vec::new();
    for does in script {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.unwrap() == 0 {
            break;
        }
        let marked = line.starts_with(b"\xff");
        let command: Value = serde_json::from_slice(&line[usize::from(marked)..]).unwrap();
        heard.push(command["execute"].as_str().unwrap().to_owned());
        match does {
            Does::Syncs => {
                assert!(marked, "a sync begins with a mark");
                let id = &command["arguments"]["id"];
                let complaint = r#"{"error": {"class": "GenericError", "desc": "JSON parse error, stray"}}"#;
                stream.write_all(format!("{complaint}\n").as_bytes()).await.unwrap();
                stream.write_all(b"\xff").await.unwrap();
                stream.write_all(format!("{{\"return\": {id}}}\n").as_bytes()).await.unwrap();
            }
            Does::Says(words) => stream.write_all(format!("{words}\n").as_bytes()).await.unwrap(),
            Does::Waits => {}
            Does::Closes => break,
        }
    }
    heard
}

/// The clock counts milliseconds.
fn took(start: Instant, time: Duration) -> bool {
    (time..time + Duration::from_millis(10)).contains(&start.elapsed())
}

const THAWED: Does = Does::Says(r#"{"return": "thawed"}"#);
const SYNC: &str = "guest-sync-delimited";
const STATUS: &str = "guest-fsfreeze-status";
const FREEZE: &str = "guest-fsfreeze-freeze";
const THAW: &str = "guest-fsfreeze-thaw";

#[tokio::test]
async fn it_freezes_and_thaws() {
    let (mut client, agent) = talk(&[
        Does::Syncs,
        THAWED,
        Does::Says(r#"{"return": 2}"#),
        Does::Says(r#"{"return": "frozen"}"#),
        Does::Says(r#"{"return": 2}"#),
        Does::Says(r#"{"return": 0}"#),
    ]);
    assert_eq!(client.freeze(BOUND).await.unwrap(), 2);
    assert_eq!(client.status(BOUND).await.unwrap(), Status::Frozen);
    assert_eq!(client.thaw(BOUND).await.unwrap(), 2);
    assert_eq!(client.thaw(BOUND).await.unwrap(), 0);
    assert_eq!(agent.await.unwrap(), [SYNC, STATUS, FREEZE, STATUS, THAW, THAW]);
}

#[tokio::test]
async fn what_is_frozen_is_not_frozen_again() {
    let (mut client, agent) = talk(&[Does::Syncs, Does::Says(r#"{"return": "frozen"}"#)]);
    let error = client.freeze(BOUND).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Frozen, Effect::None));
    assert_eq!(agent.await.unwrap(), [SYNC, STATUS]);
}

#[tokio::test]
async fn one_that_never_answers_is_told_to_thaw_and_not_to_freeze() {
    pause();
    let (mut client, agent) = talk(&[Does::Waits; 4]);
    let start = Instant::now();
    let error = client.freeze(BOUND).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Silent, Effect::None));
    assert!(took(start, BOUND));
    let error = client.thaw(BOUND).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Silent, Effect::Unknown));
    assert!(took(start, 2 * BOUND));
    drop(client);
    assert_eq!(agent.await.unwrap(), [SYNC, SYNC, THAW]);
}

#[tokio::test]
async fn one_bound_holds_for_all_of_a_freeze() {
    pause();
    let (mut client, agent) =
        talk(&[Does::Syncs, THAWED, Does::Waits, Does::Syncs, Does::Says(r#"{"return": 1}"#)]);
    let start = Instant::now();
    let error = client.freeze(BOUND).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::TimedOut, Effect::Unknown));
    assert!(took(start, BOUND));
    // The same connection is good for the thaw.
    assert_eq!(client.thaw(BOUND).await.unwrap(), 1);
    assert_eq!(agent.await.unwrap(), [SYNC, STATUS, FREEZE, SYNC, THAW]);
}

#[tokio::test]
async fn a_future_that_was_dropped_is_sorted_out_by_the_next() {
    pause();
    let (mut client, agent) = talk(&[
        Does::Syncs,
        THAWED,
        Does::Waits,
        // What the freeze is answered late is before the answer to the second sync.
        Does::Syncs,
        Does::Says(r#"{"return": 3}"#),
    ]);
    let dropped = tokio::time::timeout(Duration::from_secs(1), client.freeze(BOUND)).await;
    assert!(dropped.is_err());
    assert_eq!(client.thaw(BOUND).await.unwrap(), 3);
    assert_eq!(agent.await.unwrap(), [SYNC, STATUS, FREEZE, SYNC, THAW]);
}

#[tokio::test]
async fn one_that_closes_tells_what_is_known() {
    let cases: [(&[Does], Effect); 3] = [
        (&[Does::Closes], Effect::None),
        (&[Does::Syncs, Does::Closes], Effect::None),
        (&[Does::Syncs, THAWED, Does::Closes], Effect::Unknown),
    ];
    for (script, effect) in cases {
        let (mut client, _agent) = talk(script);
        let error = client.freeze(BOUND).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Disconnected, effect), "{script:?}: {error}");
        let error = client.thaw(BOUND).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Disconnected, Effect::None), "{script:?}: {error}");
    }
}

#[tokio::test]
async fn answers_of_another_shape_are_errors() {
    for said in
        [r#"{"return": -1}"#, r#"{"return": 4294967296}"#, r#"{"return": "2"}"#, r#"{"return": null}"#]
    {
        let script = vec![Does::Syncs, THAWED, Does::Says(said)].leak();
        let (mut client, _agent) = talk(script);
        let error = client.freeze(BOUND).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Protocol, Effect::Done), "{said}: {error}");
    }
    for said in [r#"{"return": "Frozen"}"#, r#"{"return": 1}"#] {
        let script = vec![Does::Syncs, Does::Says(said)].leak();
        let (mut client, _agent) = talk(script);
        let error = client.freeze(BOUND).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Protocol, Effect::None), "{said}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_has_the_agent_s_words() {
    let disabled = r#"{"error": {"class": "CommandNotFound", "desc": "Command guest-fsfreeze-status has been disabled"}}"#;
    let script = vec![Does::Syncs, Does::Says(disabled)].leak();
    let (mut client, _agent) = talk(script);
    let error = client.freeze(BOUND).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Rejected, Effect::None));
    assert_eq!(error.class(), Some("CommandNotFound"));
    assert_eq!(error.to_string(), format!("{STATUS}: Command guest-fsfreeze-status has been disabled"));
    assert_eq!(
        client.execute_raw("guest-ping", &Map::new(), BOUND).await.unwrap_err().kind(),
        Kind::Disconnected
    );
}

#[tokio::test]
async fn a_place_without_an_agent_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = directory.path().join("nothing");
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let left = directory.path().join("left");
    drop(tokio::net::UnixListener::bind(&left).unwrap());
    let long = directory.path().join("x".repeat(120));
    let cases = [
        (nothing, "no such socket"),
        (file, "not a socket"),
        (left, "no process listens"),
        (long, "too long"),
    ];
    for (path, what) in cases {
        let error = Client::connect_unix(&path, BOUND).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Connect, Effect::None), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
