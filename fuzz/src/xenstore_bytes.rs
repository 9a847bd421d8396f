//! What a xenstored that may be anything sends.

use std::collections::BTreeSet;

use xlsnap_xenstore::session::{CallId, Output, Reply, Request, Session};
use xlsnap_xenstore::{Path, Watchpoint};

/// The bytes come from xenstored while a request of each kind is open. The session takes any, says the same however they
/// are cut, ends each call once, and hands on only names that are parts of a path.
pub fn xenstore_bytes(data: &[u8]) {
    let (whole, calls) = run(data, usize::MAX);
    let mut ended = BTreeSet::new();
    for output in &whole {
        match output {
            Output::Reply { id, result } => {
                assert!(ended.insert(*id), "call {id} ended twice");
                if let Ok(Reply::Names(names) | Reply::Part { names, .. }) = result {
                    assert!(names.iter().all(|name| !name.contains('/') && Path::root().join(name).is_ok()));
                }
            }
            Output::Closed { lost, .. } => {
                for lost in lost {
                    assert!(ended.insert(lost.id), "call {} ended twice", lost.id);
                }
            }
            _ => {}
        }
    }
    assert_eq!(ended, calls, "each call ends");
    assert!(matches!(whole.last(), Some(Output::Closed { .. })), "the end is the last that is told");
    let piece = data.first().map_or(1, |&byte| usize::from(byte) % 37 + 1);
    assert_eq!(format!("{whole:?}"), format!("{:?}", run(data, piece).0), "in pieces of {piece} bytes");
}

/// All that the session says of `data` in such pieces, and the calls that were open.
fn run(data: &[u8], piece: usize) -> (Vec<Output>, BTreeSet<CallId>) {
    let path = || Path::new("/a").expect("it is a path");
    let requests = [
        Request::Read(path()),
        Request::Directory(path()),
        Request::DirectoryPart(path(), 0),
        Request::Write(path(), Vec::new()),
        Request::Watch(Watchpoint::Node(path()), "t".into()),
        Request::Begin,
        Request::DomainPath(1),
    ];
    let mut session = Session::new("fuzz");
    let send = |request| session.send(request, None, None).expect("it is short");
    let calls = requests.into_iter().map(send).collect();
    while session.poll_transmit().is_some() {}
    for bytes in data.chunks(piece) {
        session.handle_input(bytes);
    }
    session.handle_close(None);
    (std::iter::from_fn(|| session.poll_output()).collect(), calls)
}
