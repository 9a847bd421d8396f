//! What a real xenstored said: the session sends the same bytes and understands the answers, and the fake gives them.

use xlsnap_xenstore::session::{Output, Reply, Request, Session, TransactionId};
use xlsnap_xenstore::{Kind, Path, Watchpoint};

use crate::fake::Fake;

const TRANSCRIPT: &str = include_str!("../transcripts/xenstored-4.17.7.txt");

/// Each request with what it made xenstored send.
fn steps() -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
    let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    let bytes = |hex: &str| hex.as_bytes().chunks(2).map(byte).collect::<Vec<u8>>();
    let mut steps: Vec<(Vec<u8>, Vec<Vec<u8>>)> = Vec::new();
    for line in TRANSCRIPT.lines() {
        match line.split_at(2) {
            ("> ", hex) => steps.push((bytes(hex), Vec::new())),
            ("< ", hex) => steps.last_mut().unwrap().1.push(bytes(hex)),
            _ => assert!(line.starts_with('#')),
        }
    }
    steps
}

/// What was asked in the transcript; in the last transaction that was begun where the flag says so.
fn requests() -> Vec<(Request, bool)> {
    let path = |text: &str| Path::new(text).unwrap();
    let write = |value: &str| Request::Write(path("/a/b"), value.into());
    let at = || Watchpoint::Node(path("/a"));
    let read = || Request::Read(path("/a/b"));
    let commit = || Request::End { commit: true };
    vec![
        (write("c"), false),
        (read(), false),
        (Request::Directory(path("/a")), false),
        (Request::Read(path("/nosuch")), false),
        (Request::Watch(at(), "t1".into()), false),
        (write("d"), false),
        (Request::Begin, false),
        (read(), true),
        (write("e"), false),
        (commit(), true),
        (Request::Begin, false),
        (write("f"), true),
        (commit(), true),
        (Request::MakeDirectory(path("/a/m")), false),
        (Request::Remove(path("/a")), false),
        (Request::Remove(path("/x/y")), false),
        (Request::Unwatch(at(), "t1".into()), false),
        (Request::DomainPath(5), false),
        (Request::DirectoryPart(path("/tool"), 0), false),
    ]
}

/// Sends all requests, feeds the answers in pieces of `piece` bytes, and gives each step's answer and events.
fn replay(piece: usize) -> Vec<(Result<Reply, Kind>, Vec<Watchpoint>)> {
    let mut session = Session::new("test");
    let mut transaction: Option<TransactionId> = None;
    let mut answers = Vec::new();
    for ((request, inside), (sent, came)) in requests().into_iter().zip(steps()) {
        session.send(request.clone(), transaction.filter(|_| inside), None).unwrap();
        assert_eq!(session.poll_transmit().unwrap(), sent, "{request}");
        for bytes in came.concat().chunks(piece) {
            session.handle_input(bytes);
        }
        let (mut answer, mut events) = (None, Vec::new());
        while let Some(output) = session.poll_output() {
            match output {
                Output::Reply { result, .. } => answer = Some(result.map_err(|e| e.kind())),
                Output::Event { at, token } => {
                    assert_eq!(token, "t1");
                    events.push(at);
                }
                other => panic!("{request}: {other:?}"),
            }
        }
        if let Some(Ok(Reply::Begun(id))) = answer {
            transaction = Some(id);
        }
        answers.push((answer.expect("each request is answered"), events));
    }
    answers
}

#[test]
fn the_session_speaks_with_a_real_xenstored() {
    let answers = replay(usize::MAX);
    assert_eq!(answers.len(), steps().len());
    let results: Vec<_> = answers.iter().map(|(result, _)| result.clone()).collect();
    assert_eq!(results[1], Ok(Reply::Value(b"c".to_vec())));
    assert_eq!(results[2], Ok(Reply::Names(vec!["b".into()])));
    assert_eq!(results[3], Err(Kind::NotFound));
    assert_eq!(results[7], Ok(Reply::Value(b"d".to_vec())));
    assert_eq!(results[9], Err(Kind::Conflict));
    assert_eq!(results[12], Ok(Reply::Done));
    assert_eq!(results[15], Err(Kind::NotFound));
    assert_eq!(results[17], Ok(Reply::Path(Path::new("/local/domain/5").unwrap())));
    assert!(matches!(&results[18], Ok(Reply::Part { names, last: true, .. }) if names == &["xenstored"]));
    let at = |text: &str| Watchpoint::Node(Path::new(text).unwrap());
    assert_eq!(answers[4].1, [at("/a")]);
    assert_eq!(answers[12].1, [at("/a/b")]);
    assert_eq!(answers[14].1, [at("/a")]);
}

#[test]
fn it_does_not_matter_how_the_answers_are_cut() {
    let whole = replay(usize::MAX);
    for piece in 1..40 {
        assert_eq!(replay(piece), whole, "pieces of {piece} bytes");
    }
}

#[test]
fn the_fake_says_what_the_real_one_says() {
    /// The number in the payload is the generation of the node, which counts all changes since the start.
    const DIRECTORY_PART: u8 = 22;
    let mut fake = Fake::new();
    for (request, came) in steps().into_iter().filter(|(request, _)| request[0] != DIRECTORY_PART) {
        assert_eq!(fake.handle(&request), came, "{}", request.escape_ascii());
    }
}
