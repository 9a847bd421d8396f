//! Connecting: what is wrong, and what to do about it.

use std::io::{IoSliceMut, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use xlsnap_qmp_transport::commands::Getfd;
use xlsnap_qmp_transport::{Client, Effect, Error, Kind, Options, Qmp, QmpExt};
use xlsnap_testkit::wire::{GREETING, Script, WireServer, connect};

fn impatient() -> Options {
    let mut options = Options::default();
    options.connect_timeout = Duration::from_millis(50);
    options.greeting_timeout = Duration::from_millis(50);
    options
}

/// Why there is no connection; every such error is without effect and names the socket.
async fn refusal(path: &std::path::Path) -> Error {
    let error = Client::connect_unix(path, impatient()).await.expect_err("no connection can be made");
    assert_eq!(error.effect(), Effect::None);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

async fn refusal_of(script: Script) -> Error {
    let server = WireServer::start([script]);
    refusal(&server.path()).await
}

#[tokio::test]
async fn no_socket_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = refusal(&directory.path().join("none")).await;
    assert_eq!(missing.kind(), Kind::Connect);
    assert!(missing.to_string().contains("no such socket"), "{missing}");

    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let not_a_socket = refusal(&file).await;
    assert_eq!(not_a_socket.kind(), Kind::Connect);
    assert!(not_a_socket.to_string().contains("not a socket"), "{not_a_socket}");

    let dead = directory.path().join("dead");
    drop(UnixListener::bind(&dead).unwrap());
    let unheard = refusal(&dead).await;
    assert_eq!(unheard.kind(), Kind::Connect);
    assert!(unheard.to_string().contains("has ended"), "{unheard}");

    let long = refusal(&directory.path().join("x".repeat(200))).await;
    assert_eq!(long.kind(), Kind::Connect);
    assert!(long.to_string().contains("too long"), "{long}");
}

/// A QEMU that is killed resets the connections that it had not accepted.
#[tokio::test]
async fn a_socket_that_ends_while_a_client_connects() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ending");
    for round in 0..200 {
        let listener = UnixListener::bind(&path).unwrap();
        let ending = std::thread::spawn(move || {
            // The moment differs from round to round.
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
            drop(listener);
        });
        let error = refusal(&path).await;
        let said = format!("round {round}: {error:?}");
        assert!(error.kind() == Kind::Disconnected || error.no_listener(&path), "{said}");
        ending.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn no_permission() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("closed");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let error = refusal(&path).await;
    // Root may connect all the same, and then gets no greeting.
    let may = error.kind() == Kind::Busy;
    assert!(may || error.to_string().contains("no permission"), "{error}");
}

#[tokio::test]
async fn another_client_holds_the_monitor() {
    let server = WireServer::start([Script::ready(), Script::ready(), Script::ready()]);
    let first = Client::connect_unix(server.path(), Options::default()).await.unwrap();
    let second = refusal(&server.path()).await;
    assert_eq!(second.kind(), Kind::Busy);
    assert!(second.to_string().contains("another client holds the monitor"), "{second}");
    first.close().await;
    let patient = Client::connect_unix(server.path(), Options::default()).await.unwrap();
    assert_eq!(patient.version(), (10, 0, 2));
}

/// QEMU listens with a queue of one: with a client served and another waiting, the third is turned away by the kernel.
#[tokio::test]
async fn the_queue_of_the_monitor_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        match tokio::net::UnixStream::connect(&path).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    let error = refusal(&path).await;
    assert_eq!(error.kind(), Kind::Busy);

    // It keeps trying: when there is room again it gets in.
    let mut options = impatient();
    options.connect_timeout = Duration::from_secs(60);
    options.greeting_timeout = Duration::from_secs(60);
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            // Those that only waited have gone.
            let _ = stream.write_all(GREETING.as_bytes()).await;
            let mut line = String::new();
            if stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {
                let sent: serde_json::Value = serde_json::from_str(&line).unwrap();
                let reply = json!({"return": {}, "id": sent["id"]}).to_string();
                stream.write_all(reply.as_bytes()).await.unwrap();
                return stream;
            }
        }
    };
    let leave = async {
        // The client tries first, and finds the queue full.
        tokio::task::yield_now().await;
        drop(waiting);
        let _stream = serve.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        client = Client::connect_unix(&path, options) => drop(client.unwrap()),
        () = leave => {}
    }
}

#[tokio::test]
async fn what_does_not_speak_qmp() {
    for garbage in ["SSH-2.0-x\r\n", "HTTP/1.1 400\r\n", "{\"hello\": 1}", "{\"QMP\": }"] {
        let error = refusal_of(Script::new().send(garbage)).await;
        assert_eq!(error.kind(), Kind::Protocol, "{garbage}: {error}");
    }
    let slow = refusal_of(Script::new().send("{\"QMP\":")).await;
    assert_eq!(slow.kind(), Kind::Protocol, "{slow}");
    let gone = refusal_of(Script::new().close()).await;
    assert_eq!(gone.kind(), Kind::Disconnected, "{gone}");
    let refused = refusal_of(Script::new().greet().read().refuse("no")).await;
    assert_eq!(refused.kind(), Kind::Protocol, "{refused}");
    let silent = refusal_of(Script::new().greet().read()).await;
    assert_eq!(silent.kind(), Kind::TimedOut, "{silent}");
    let hung = refusal_of(Script::new()).await;
    assert_eq!(hung.kind(), Kind::Busy, "{hung}");
}

#[tokio::test]
async fn a_greeting_without_end_is_cut_off() {
    let mut options = Options::default();
    options.max_message = 4096;
    let stream = connect(Script::new().send("{\"QMP\": \"").send("x".repeat(60_000)));
    let error = Client::from_stream(stream, "peer", options).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::TooLarge, Effect::None));
}

/// What a Unix socket's other end receives: the bytes, and the descriptors beside them.
fn received(stream: &std::os::unix::net::UnixStream) -> (String, Vec<std::os::fd::OwnedFd>) {
    let mut bytes = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let count = recvmsg(stream, &mut buffers, &mut beside, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let descriptors = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = descriptors.flatten().collect();
    (String::from_utf8(bytes[..count].to_vec()).unwrap(), descriptors)
}

#[tokio::test]
async fn a_descriptor_comes_before_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(format!("{GREETING}\n").as_bytes()).unwrap();
        let (mut open, mut before, mut answered) = (None, String::new(), 0);
        while answered < 3 {
            let (text, descriptors) = received(&stream);
            assert!(!text.is_empty(), "the client left after {before:?}");
            if let Some(descriptor) = descriptors.into_iter().next() {
                assert!(!before.contains("getfd"), "{before:?}");
                open = Some(descriptor);
            }
            before.push_str(&text);
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let asked: serde_json::Value = serde_json::from_str(line).unwrap();
                if asked["execute"] == "getfd" {
                    assert_eq!(asked["arguments"], json!({"fdname": "pipe"}));
                    assert!(open.is_some(), "{before:?}");
                }
                stream
                    .write_all(format!("{}\n", json!({"return": {}, "id": asked["id"]})).as_bytes())
                    .unwrap();
                answered += 1;
            }
        }
        std::fs::File::from(open.unwrap()).write_all(b"through it").unwrap();
    });
    let client = Client::connect_unix(&path, Options::default()).await.unwrap();
    let (mut ours, theirs) = std::io::pipe().unwrap();
    client.execute_with(Getfd { fdname: "pipe".into() }, theirs.into()).await.unwrap();
    client.execute_raw("stop", serde_json::Map::new()).await.unwrap();
    let mut came = String::new();
    ours.read_to_string(&mut came).unwrap();
    assert_eq!(came, "through it");
    server.join().unwrap();
}

/// Over another stream no descriptor goes, and nothing is sent.
#[tokio::test]
async fn another_stream_carries_no_descriptor() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn(async move {
        let mut theirs = BufReader::new(theirs);
        theirs.write_all(format!("{GREETING}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        theirs.read_line(&mut line).await.unwrap();
        let asked: serde_json::Value = serde_json::from_str(&line).unwrap();
        theirs.write_all(format!("{}\n", json!({"return": {}, "id": asked["id"]})).as_bytes()).await.unwrap();
        line.clear();
        theirs.read_line(&mut line).await.unwrap();
        line
    });
    let client = Client::from_stream(ours, "a duplex", Options::default()).await.unwrap();
    let (_ours, theirs) = std::io::pipe().unwrap();
    let error = client.execute_with(Getfd { fdname: "pipe".into() }, theirs.into()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Rejected, Effect::None), "{error}");
    client.close().await;
    assert_eq!(server.await.unwrap(), "");
}
