//! The client on a fake xenstored.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use xlsnap_xenstore::{
    Change, Client, Effect, Error, Kind, Nodes, NodesExt, Options, Path, Watchpoint, Xenstore, transaction,
};

use crate::fake::{Fake, serve};

fn path(text: &str) -> Path {
    Path::new(text).unwrap()
}

fn client() -> (Client, Arc<Mutex<Fake>>) {
    let fake = Arc::new(Mutex::new(Fake::new()));
    (Client::from_stream(serve(fake.clone()), "fake", Options::default()), fake)
}

#[tokio::test]
async fn nodes_are_written_listed_read_and_removed() {
    let (client, _) = client();
    client.write(&path("/a/b"), b"1\0\xff").await.unwrap();
    client.make_directory(&path("/a/c")).await.unwrap();
    assert_eq!(client.directory(&path("/a")).await.unwrap(), ["b", "c"]);
    assert_eq!(client.read(&path("/a/b")).await.unwrap(), b"1\0\xff");
    assert_eq!(client.text(&path("/a/b")).await.unwrap_err().kind(), Kind::Protocol);
    client.remove(&path("/a")).await.unwrap();
    assert_eq!(client.text(&path("/a/b")).await.unwrap(), None);
    let error = client.read(&path("/a/b")).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.code()),
        ("read /a/b: there is no such node", Some("ENOENT"))
    );
    assert_eq!(client.domain_path(3).await.unwrap(), path("/local/domain/3"));
}

#[tokio::test]
async fn a_long_directory_comes_in_parts_or_at_once() {
    let (client, fake) = client();
    let names: Vec<String> = (0..900).map(|number| format!("child-{number:04}")).collect();
    for name in &names {
        client.write(&path("/long").join(name).unwrap(), b"").await.unwrap();
    }
    assert_eq!(client.directory(&path("/long")).await.unwrap(), names);
    fake.lock().unwrap().lists_at_length = true;
    assert_eq!(client.directory(&path("/long")).await.unwrap(), names);
}

#[tokio::test]
async fn a_directory_with_too_many_children_is_refused() {
    let fake = Arc::new(Mutex::new(Fake::new()));
    let mut options = Options::default();
    options.max_children = 2;
    let client = Client::from_stream(serve(fake), "fake", options);
    for name in ["/d/a", "/d/b", "/d/c"] {
        client.write(&path(name), b"").await.unwrap();
    }
    assert_eq!(client.directory(&path("/d")).await.unwrap_err().kind(), Kind::Limit);
}

/// Adds one to the number at `/n`.
async fn count(client: &Client) -> Result<u32, Error> {
    transaction(client, |nodes| async move {
        let number = nodes.text(&path("/n")).await?.map_or(0, |text| text.parse().unwrap()) + 1;
        nodes.write(&path("/n"), number.to_string().as_bytes()).await?;
        Ok((nodes, number))
    })
    .await
}

#[tokio::test]
async fn a_transaction_is_repeated_while_others_interfere() {
    let (client, fake) = client();
    let client = Arc::new(client);
    fake.lock().unwrap().conflicts = 3;
    // In a task of its own, because its future must be one that can move between threads.
    let counted = tokio::spawn({
        let client = client.clone();
        async move { count(&client).await.unwrap() }
    });
    assert_eq!(counted.await.unwrap(), 1);
    fake.lock().unwrap().conflicts = 1000;
    let error = count(&client).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Conflict, Effect::None));
    let fake = fake.lock().unwrap();
    assert_eq!((fake.value("/n"), fake.open_transactions()), (Some(&b"1"[..]), 0));
}

#[tokio::test]
async fn a_transaction_that_is_dropped_or_fails_changes_nothing() {
    let (client, fake) = client();
    let transaction = client.begin().await.unwrap();
    transaction.write(&path("/t"), b"1").await.unwrap();
    drop(transaction);
    let result = xlsnap_xenstore::transaction(&client, |nodes| async move {
        nodes.write(&path("/t"), b"2").await?;
        let value = nodes.read(&path("/nosuch")).await?;
        Ok::<_, Error>((nodes, value))
    })
    .await;
    assert_eq!(result.unwrap_err().kind(), Kind::NotFound);
    // The requests are answered in order, so that the discards were executed when this is.
    assert_eq!(client.text(&path("/t")).await.unwrap(), None);
    assert_eq!(fake.lock().unwrap().open_transactions(), 0);
}

#[tokio::test]
async fn a_watch_tells_changes_until_it_is_dropped() {
    let (client, fake) = client();
    let at = Watchpoint::Node(path("/d"));
    let mut watch = client.watch(&at).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Change::At(at.clone()), "the state at the start");
    client.write(&path("/elsewhere"), b"").await.unwrap();
    client.write(&path("/d/x"), b"1").await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Change::At(path("/d/x").into()));
    client.remove(&path("/d")).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Change::At(at));
    drop(watch);
    client.text(&path("/d")).await.unwrap();
    assert_eq!(fake.lock().unwrap().watches(), 0);
}

#[tokio::test]
async fn a_watch_that_lags_says_so() {
    let fake = Arc::new(Mutex::new(Fake::new()));
    let mut options = Options::default();
    options.watch_capacity = 1;
    let client = Client::from_stream(serve(fake), "fake", options);
    let mut watch = client.watch(&path("/d").into()).await.unwrap();
    for value in [b"1", b"2", b"3"] {
        client.write(&path("/d"), value).await.unwrap();
    }
    // The reply to this comes after the events.
    client.text(&path("/d")).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Change::Missed);
}

#[tokio::test]
async fn the_end_of_the_connection_reaches_calls_and_watches() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let client = Client::from_stream(ours, "fake", Options::default());
    let (at, below): (Watchpoint, _) = (path("/d").into(), path("/d/x"));
    let (watch, write, ()) =
        tokio::join!(client.watch(&at), client.write(&below, b""), async { drop(theirs) });
    assert_eq!(watch.unwrap_err().kind(), Kind::Unanswered);
    assert_eq!(write.unwrap_err().kind(), Kind::Unanswered);

    let (client, _) = self::client();
    let mut watch = client.watch(&Watchpoint::DomainsVanish).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Change::At(Watchpoint::DomainsVanish));
    client.close().await;
    assert_eq!(watch.next().await.unwrap_err().kind(), Kind::Unanswered);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_bounded() {
    let (ours, _theirs) = tokio::io::duplex(4096);
    let mut options = Options::default();
    options.call_timeout = Duration::from_secs(7);
    let client = Client::from_stream(ours, "/run/x", options);
    let error = client.write(&path("/a"), b"").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unanswered, Effect::Unknown));
    let expected =
        "write /a: /run/x did not answer in time; it may still be executed; see whether xenstored still runs";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn no_xenstored_is_said_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::connect(dir.path().join("none"), Options::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Connect);
    assert!(error.to_string().ends_with("run this in dom0 of a Xen host"), "{error}");
    let socket = dir.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = Client::connect(&socket, Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("no process listens"), "{error}");
}

#[tokio::test]
async fn who_comes_while_others_wait_is_served_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    // As oxenstored does.
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::net::UnixStream::connect(&path).await {
        waiting.push(stream);
        assert!(waiting.len() < 10, "the kernel refuses some");
    }
    let (client, ()) = tokio::join!(Client::connect(&path, Options::default()), async {
        tokio::task::yield_now().await;
        for _ in 0..=waiting.len() {
            drop(listener.accept().await.unwrap());
        }
    });
    client.unwrap();
}
