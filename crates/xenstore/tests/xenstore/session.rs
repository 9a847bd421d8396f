//! Hostile and unlucky input to the session.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use xlsnap_xenstore::session::{
    MAX_OPEN, MAX_PAYLOAD, MAX_REPLY, Output, Reply, Request, Session, TransactionId,
};
use xlsnap_xenstore::{Effect, Kind, Path, Watchpoint};

use crate::fake::encode;

fn read() -> Request {
    Request::Read(Path::new("/a").unwrap())
}

fn write() -> Request {
    Request::Write(Path::new("/a").unwrap(), b"1".to_vec())
}

/// A session whose calls with these requests, numbered from 1, were sent.
fn sent(requests: &[Request]) -> Session {
    let mut session = Session::new("test");
    for request in requests {
        session.send(request.clone(), None, None).unwrap();
    }
    while session.poll_transmit().is_some() {}
    session
}

fn outputs(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.poll_output()).collect()
}

/// The kind and the effect with which the only call ends, after this input.
fn failure(request: Request, input: &[u8]) -> (Kind, Effect) {
    let mut session = sent(&[request]);
    session.handle_input(input);
    let all = outputs(&mut session);
    match &all[..] {
        [Output::Reply { result: Err(error), .. }, ..] => (error.kind(), error.effect()),
        [Output::Closed { lost, .. }] => (lost[0].error.kind(), lost[0].error.effect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_in_any_order_with_events_between() {
    let mut session = sent(&[read(), read()]);
    let event = encode(15, 0, 0, b"/x/y\0t\0");
    session.handle_input(&[encode(2, 2, 0, b"two"), event.clone(), encode(2, 1, 0, b"one"), event].concat());
    let said: Vec<String> = outputs(&mut session)
        .into_iter()
        .map(|output| match output {
            Output::Reply { id, result: Ok(Reply::Value(value)) } => format!("{id} {}", value.escape_ascii()),
            Output::Event { at, token } => format!("{at} {token}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said, ["2 two", "/x/y t", "1 one", "/x/y t"]);
}

#[test]
fn nonsense_ends_the_session_and_changes_are_unknown() {
    let none = (Kind::Protocol, Effect::None);
    let unknown = (Kind::Protocol, Effect::Unknown);
    let mut long = encode(2, 1, 0, b"");
    long[12..].copy_from_slice(&u32::try_from(MAX_REPLY + 1).unwrap().to_le_bytes());
    assert_eq!(failure(read(), &long), none, "too long");
    assert_eq!(failure(write(), &long), unknown);
    assert_eq!(failure(read(), &encode(11, 1, 0, b"OK\0")), none, "another type");
    assert_eq!(failure(read(), &encode(2, 1, 7, b"x")), none, "another transaction");
    assert_eq!(failure(write(), &encode(11, 1, 0, b"KO\0")), unknown, "no OK");
    assert_eq!(failure(write(), &encode(16, 1, 0, b"it broke\0")), unknown, "no name of an error");
    let list = || Request::Directory(Path::root());
    for names in [&b"a\0b"[..], b"a\0\0", b"a/b\0", b"..\0", b"\xff\0"] {
        assert_eq!(failure(list(), &encode(1, 1, 0, names)), none, "{}", names.escape_ascii());
    }
    assert_eq!(failure(Request::Begin, &encode(6, 1, 0, b"0\0")), none, "0 means no transaction");
    let part = Request::DirectoryPart(Path::root(), 0);
    assert_eq!(failure(part, &encode(22, 1, 0, b"1\0")), none, "no progress");
}

#[test]
fn refusals_are_told_apart() {
    let refused = |code: &str| failure(write(), &encode(16, 1, 0, format!("{code}\0").as_bytes()));
    assert_eq!(refused("ENOENT"), (Kind::NotFound, Effect::None));
    assert_eq!(refused("EACCES"), (Kind::Permission, Effect::None));
    assert_eq!(refused("EQUOTA"), (Kind::Limit, Effect::None));
    assert_eq!(refused("EINVAL"), (Kind::Rejected, Effect::None));
    assert_eq!(refused("EIO"), (Kind::Rejected, Effect::Unknown));
}

#[test]
fn replies_that_are_not_awaited_are_dropped() {
    let mut session = sent(&[read()]);
    session.handle_input(&[encode(2, 9, 0, b"x"), encode(15, 0, 0, b"no token\0")].concat());
    assert!(matches!(&outputs(&mut session)[..], [Output::Dropped { .. }, Output::Dropped { .. }]));
    assert!(!session.is_closed());
}

#[test]
fn a_late_reply_is_dropped_and_a_late_transaction_discarded() {
    let mut session = Session::new("test");
    let deadline = Instant::now() + Duration::from_secs(1);
    session.send(write(), None, Some(deadline)).unwrap();
    let begin = session.send(Request::Begin, None, None).unwrap();
    while session.poll_transmit().is_some() {}
    session.abandon(begin);
    session.handle_timeout(deadline);
    let [Output::Reply { result: Err(error), .. }] = &outputs(&mut session)[..] else { panic!() };
    assert_eq!((error.kind(), error.effect()), (Kind::Unanswered, Effect::Unknown));
    session.handle_input(&[encode(11, 1, 0, b"OK\0"), encode(6, 2, 0, b"44\0")].concat());
    assert!(outputs(&mut session).iter().all(|output| matches!(output, Output::Dropped { .. })));
    assert_eq!(session.poll_transmit().unwrap(), encode(7, 3, 44, b"F\0"));
}

#[test]
fn inside_a_transaction_only_the_commit_has_an_effect() {
    let mut session = sent(&[Request::Begin]);
    session.handle_input(&encode(6, 1, 0, b"4294967295\0"));
    let [Output::Reply { result: Ok(Reply::Begun(id)), .. }] = outputs(&mut session)[..] else { panic!() };
    let mut effects = |id: TransactionId| {
        session.send(write(), Some(id), None).unwrap();
        session.send(Request::End { commit: true }, Some(id), None).unwrap();
        while session.poll_transmit().is_some() {}
        session.handle_close(None);
        let Some(Output::Closed { lost, .. }) = session.poll_output() else { panic!() };
        lost.iter().map(|lost| lost.error.effect()).collect::<Vec<_>>()
    };
    assert_eq!(effects(id), [Effect::None, Effect::Unknown]);
}

#[test]
fn what_is_too_much_is_not_sent() {
    let mut session = Session::new("test");
    let path = Path::new("/a").unwrap();
    let fits = vec![0; MAX_PAYLOAD - "/a\0".len()];
    session.send(Request::Write(path.clone(), fits.clone()), None, None).unwrap();
    let error = session.send(Request::Write(path.clone(), [fits, vec![0]].concat()), None, None).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Limit, Effect::None));
    let token = Request::Watch(Watchpoint::Node(path), "a\0b".into());
    assert_eq!(session.send(token, None, None).unwrap_err().kind(), Kind::Rejected);
    for _ in 1..MAX_OPEN {
        session.send(read(), None, None).unwrap();
    }
    assert_eq!(session.send(read(), None, None).unwrap_err().kind(), Kind::Limit);
}

#[test]
fn paths_are_those_of_xenstore() {
    for good in ["/", "/a", "/local/domain/3", "/a-b_c@d/E0"] {
        assert_eq!(Path::new(good).unwrap().as_str(), good);
    }
    for bad in ["", "a", "//", "/a/", "/a//b", "/a b", "/a\0", "/ä", "@releaseDomain", "/.."] {
        assert_eq!(Path::new(bad).unwrap_err().kind(), Kind::Rejected, "{bad:?}");
    }
    assert!(Path::new(format!("/{}", "a".repeat(Path::MAX_LENGTH - 1))).is_ok());
    assert_eq!(Path::new("/a".repeat(Path::MAX_DEPTH + 1)).unwrap_err().kind(), Kind::Limit);
    assert_eq!(Path::new("x".repeat(Path::MAX_LENGTH + 1)).unwrap_err().kind(), Kind::Limit);
    let deep = Path::root().join("a").unwrap().join("b/c").unwrap();
    assert_eq!((deep.as_str(), deep.name(), deep.parent().unwrap().as_str()), ("/a/b/c", "c", "/a/b"));
    assert_eq!(Path::new("/a").unwrap().parent(), Some(Path::root()));
    assert_eq!(Path::root().parent(), None);
    assert!(
        deep.is_within(&Path::new("/a").unwrap())
            && !Path::new("/ab").unwrap().is_within(&Path::new("/a").unwrap())
    );
}

proptest! {
    /// Any bytes, however they are cut: the same is said, each call ends at most once, and all end with the session.
    #[test]
    fn any_bytes(
        messages in prop::collection::vec(
            (0_u32..24, 0_u32..6, 0_u32..3, prop::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(b'/'), any::<u8>()], 0..20)),
            0..8,
        ),
        tail in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(1_usize..30, 1..20),
    ) {
        let mut bytes: Vec<u8> = messages.iter().flat_map(|(kind, id, tx, payload)| encode(*kind, *id, *tx, payload)).collect();
        bytes.extend(tail);
        let run = |cuts: &[usize]| {
            let part = Request::DirectoryPart(Path::root(), 0);
            let mut session = sent(&[read(), write(), Request::Directory(Path::root()), part, Request::Begin]);
            let mut rest = &bytes[..];
            for &cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                session.handle_input(piece);
                rest = after;
                if rest.is_empty() { break; }
            }
            session.handle_close(None);
            outputs(&mut session)
        };
        let whole = run(&[usize::MAX]);
        let mut ended = Vec::new();
        for output in &whole {
            match output {
                Output::Reply { id, .. } => ended.push(*id),
                Output::Closed { lost, .. } => ended.extend(lost.iter().map(|lost| lost.id)),
                _ => {}
            }
        }
        ended.sort();
        let all = ended.len();
        ended.dedup();
        prop_assert_eq!((all, ended.len()), (5, 5));
        let closed = matches!(whole.last(), Some(Output::Closed { .. }));
        prop_assert!(closed);
        prop_assert_eq!(format!("{whole:?}"), format!("{:?}", run(&cuts)));
    }
}
