//! The client on scripted monitors.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::AsyncWrite;
use tokio::sync::broadcast::error::RecvError;
use xlsnap_qmp_transport::commands::{QueryStatus, Stop};
use xlsnap_qmp_transport::{Client, Effect, Features, Kind, Options, Qmp, QmpExt};
use xlsnap_testkit::wire::{Answer, Gate, Script, WireServer, connect};

async fn client(script: Script) -> Client {
    Client::from_stream(connect(script), "vm.qmp", Options::default()).await.unwrap()
}

fn table(command: &str, _: &Map<String, Value>) -> Answer {
    match command {
        "stop" => Answer::Return(json!({})),
        "query-commands" => Answer::Return(json!([{"name": "stop"}])),
        "query-status" => Answer::Error("not now".to_owned()),
        _ => Answer::NotFound,
    }
}

#[tokio::test]
async fn commands_are_answered() {
    let client = client(Script::ready().serve(table)).await;
    client.execute(Stop).await.unwrap();
    let refused = client.execute(QueryStatus).await.unwrap_err();
    assert_eq!((refused.kind(), refused.effect()), (Kind::Rejected, Effect::None));
    assert_eq!(refused.class(), Some("GenericError"));
    let unknown = client.execute_raw("nosuch", Map::new()).await.unwrap_err();
    assert_eq!(unknown.class(), Some("CommandNotFound"));
    let features = Features::query(&client).await.unwrap();
    assert!(features.has_command("stop") && !features.has_command("cont"));
    client.close().await;
}

#[tokio::test]
async fn a_result_that_is_not_understood_was_done() {
    let client = client(Script::ready().serve(|_, _| Answer::Return(json!([1])))).await;
    let error = client.execute(QueryStatus).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Protocol, Effect::Done));
}

#[tokio::test]
async fn calls_may_overlap() {
    let script = Script::ready().read().read().give(json!("first")).give(json!("second"));
    let client = client(script).await;
    let (first, second) =
        tokio::join!(client.execute_raw("a", Map::new()), client.execute_raw("b", Map::new()));
    assert_eq!((first.unwrap(), second.unwrap()), (json!("first"), json!("second")));
}

#[tokio::test]
async fn a_long_reply_and_a_long_command_pass() {
    let long = "x".repeat(1 << 20);
    let reply = json!(long);
    let client = client(Script::ready().serve(move |_, arguments| {
        assert_eq!(arguments["a"].as_str().map(str::len), Some(1 << 20));
        Answer::Return(reply.clone())
    }))
    .await;
    let arguments = Map::from_iter([("a".to_owned(), json!(long))]);
    assert_eq!(client.execute_raw("a", arguments).await.unwrap(), json!(long));
}

#[tokio::test]
async fn events_reach_every_subscriber_from_when_it_subscribed() {
    let subscribed = Gate::new();
    let script = Script::ready()
        .wait(&subscribed)
        .send("{\"event\": \"STOP\"}{\"event\": \"RESUME\", \"data\": {\"a\": 1}}")
        .close();
    let client = client(script).await;
    let mut streams = [client.events(), client.events()];
    subscribed.open();
    for stream in &mut streams {
        assert_eq!(stream.recv().await.unwrap().name, "STOP");
        assert_eq!(stream.recv().await.unwrap().data["a"], 1);
    }
    drop(client);
    assert_eq!(streams[0].recv().await, Err(RecvError::Closed));
}

#[tokio::test]
async fn a_subscriber_that_lags_is_told() {
    let subscribed = Gate::new();
    let script = Script::ready().wait(&subscribed).send("{\"event\": \"E\"}".repeat(10)).serve(table);
    let mut options = Options::default();
    options.event_capacity = 4;
    let client = Client::from_stream(connect(script), "vm.qmp", options).await.unwrap();
    let mut events = client.events();
    subscribed.open();
    client.execute(Stop).await.unwrap();
    assert_eq!(events.recv().await, Err(RecvError::Lagged(6)));
    assert_eq!(events.recv().await.unwrap().name, "E");
}

#[tokio::test]
async fn a_connection_lost_under_a_call_is_of_unknown_effect() {
    let reply = r#"{"return": {}, "id": "#;
    for script in [
        Script::ready().read().close(),
        // In the middle of the reply.
        Script::ready().read().send(reply).close(),
        Script::ready().read().send("garbage"),
    ] {
        let client = client(script).await;
        let error = client.execute(Stop).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Disconnected | Kind::Protocol), "{error}");
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        assert!(error.to_string().starts_with("stop: vm.qmp "), "{error}");
        let next = client.execute(Stop).await.unwrap_err();
        assert_eq!((next.kind(), next.effect()), (Kind::Disconnected, Effect::None), "{next}");
        client.close().await;
    }
}

#[tokio::test]
async fn a_reply_that_came_before_the_end_counts() {
    let (first, sent) = (Gate::new(), Gate::new());
    let script = Script::ready().read().give(json!({})).open(&first).wait(&sent).close();
    let client = client(script).await;
    client.execute(Stop).await.unwrap();
    first.passed().await;
    sent.open();
    // Whether it finds the end before it writes or after, nothing is claimed that is not known.
    let error = client.execute(Stop).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Disconnected);
    assert_ne!(error.effect(), Effect::Done);
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection() {
    let mut options = Options::default();
    options.max_message = 1 << 16;
    let script = Script::ready().read().give(json!("x".repeat(1 << 17)));
    let client = Client::from_stream(connect(script), "vm.qmp", options).await.unwrap();
    let error = client.execute(Stop).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::TooLarge, Effect::Unknown));
}

/// The clock stands still but for what the client waits for.
#[tokio::test(start_paused = true)]
async fn a_call_times_out_and_its_late_reply_is_dropped() {
    let late = Gate::new();
    let client = client(Script::ready().read().wait(&late).give(json!("late")).serve(table)).await;
    let patience = Duration::from_secs(30);
    let error = client.execute_within("transaction", Map::new(), patience).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::TimedOut, Effect::Unknown));
    assert!(error.to_string().starts_with("transaction: "), "{error}");
    late.open();
    assert_eq!(client.execute_raw("stop", Map::new()).await.unwrap(), json!({}));
}

/// A monitor that greets and then is silent: a look is given up soon, and had no effect; what changes something is waited for.
#[tokio::test(start_paused = true)]
async fn a_look_is_not_waited_for_as_long_as_an_effect() {
    let options = Options::default();
    for (command, patience, effect) in [
        ("query-block", options.query_timeout, Effect::None),
        ("qom-get", options.query_timeout, Effect::None),
        ("transaction", options.call_timeout, Effect::Unknown),
        // While QEMU sends or loads memory, it answers this late.
        ("query-migrate", options.call_timeout, Effect::Unknown),
    ] {
        let client = client(Script::ready().read().wait(&Gate::new())).await;
        let start = tokio::time::Instant::now();
        let error = client.execute_raw(command, Map::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::TimedOut, effect), "{command}");
        assert_eq!(start.elapsed().as_secs(), patience.as_secs(), "{command}");
    }
    assert!(options.query_timeout * 10 < options.call_timeout);
}

#[tokio::test]
async fn an_abandoned_call_does_not_disturb_the_next() {
    let (heard, late) = (Gate::new(), Gate::new());
    let script = Script::ready().read().open(&heard).wait(&late).give(json!("late")).serve(table);
    let client = client(script).await;
    tokio::select! {
        reply = client.execute_raw("query-block", Map::new()) => panic!("{reply:?}"),
        () = heard.passed() => {}
    }
    late.open();
    assert_eq!(client.execute_raw("stop", Map::new()).await.unwrap(), json!({}));
}

/// While a long command is being written, the next ones wait; one that is given up there is never sent.
#[tokio::test]
async fn a_command_that_is_abandoned_before_it_is_sent_is_not_sent() {
    let (connected, read_on) = (Gate::new(), Gate::new());
    let server = WireServer::start([Script::ready().open(&connected).wait(&read_on).serve(table)]);
    let client = Client::connect_unix(server.path(), Options::default()).await.unwrap();
    connected.passed().await;
    // More than a socket's buffers hold.
    let long = Map::from_iter([("a".to_owned(), json!("x".repeat(4 << 20)))]);
    let long = client.execute_raw("long", long);
    let given_up = async {
        let abandoned = client.execute_raw("abandoned", Map::new());
        assert!(tokio::time::timeout(Duration::from_millis(20), abandoned).await.is_err());
        read_on.open();
    };
    let (long, ()) = tokio::join!(long, given_up);
    assert_eq!(long.unwrap_err().class(), Some("CommandNotFound"));
    client.execute(Stop).await.unwrap();
    assert_eq!(server.commands(), ["qmp_capabilities", "long", "stop"]);
}

#[tokio::test]
async fn a_stream_with_a_buffer_is_flushed() {
    let stream = tokio::io::BufStream::new(connect(Script::ready().serve(table)));
    let client = Client::from_stream(stream, "vm.qmp", Options::default()).await.unwrap();
    client.execute(Stop).await.unwrap();
}

/// Writes until `broken` is set, which the peer hears of by `noticed`.
struct Breaking<W> {
    writer: W,
    broken: Gate,
    noticed: Gate,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Breaking<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.broken.is_open() {
            self.noticed.open();
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// What QEMU said before it closed is not lost when we notice its end by writing.
#[tokio::test(start_paused = true)]
async fn after_a_failed_write_the_replies_that_are_there_count() {
    let (heard, broken, noticed) = (Gate::new(), Gate::new(), Gate::new());
    let script = Script::ready().read().open(&heard).wait(&noticed).give(json!({})).close();
    let (reader, writer) = tokio::io::split(connect(script));
    let stream = tokio::io::join(reader, Breaking { writer, broken: broken.clone(), noticed });
    let client = Client::from_stream(stream, "vm.qmp", Options::default()).await.unwrap();
    let second = async {
        heard.passed().await;
        broken.open();
        client.execute_raw("second", Map::new()).await
    };
    let (first, second) = tokio::join!(client.execute(Stop), second);
    first.unwrap();
    assert_eq!(second.unwrap_err().effect(), Effect::Unknown);
}

/// Otherwise QEMU hands the reply to the next client.
#[tokio::test]
async fn close_waits_for_a_reply_that_is_owed() {
    let (heard, late) = (Gate::new(), Gate::new());
    let server = WireServer::start([
        Script::ready().read().open(&heard).wait(&late).give(json!({})),
        Script::ready().serve(table),
    ]);
    let client = Client::connect_unix(server.path(), Options::default()).await.unwrap();
    tokio::select! {
        reply = client.execute_raw("query-block", Map::new()) => panic!("{reply:?}"),
        () = heard.passed() => {}
    }
    let mut closed = tokio::spawn(client.close());
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut closed).await.is_err(), "a reply is owed");
    late.open();
    closed.await.unwrap();
    let next = Client::connect_unix(server.path(), Options::default()).await.unwrap();
    next.execute(Stop).await.unwrap();
    assert_eq!(server.commands(), ["qmp_capabilities", "query-block", "qmp_capabilities", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_ever() {
    let heard = Gate::new();
    let client = client(Script::ready().read().open(&heard)).await;
    tokio::select! {
        reply = client.execute_raw("query-block", Map::new()) => panic!("{reply:?}"),
        () = heard.passed() => {}
    }
    let start = tokio::time::Instant::now();
    client.close().await;
    assert_eq!(start.elapsed().as_secs(), Options::default().close_timeout.as_secs());
}

#[tokio::test]
async fn dropping_the_client_closes_the_connection() {
    let server = WireServer::start([Script::ready(), Script::ready()]);
    let client = Client::connect_unix(server.path(), Options::default()).await.unwrap();
    drop(client);
    // The monitor serves one at a time: it has noticed.
    Client::connect_unix(server.path(), Options::default()).await.unwrap().close().await;
}

#[tokio::test]
async fn it_stands_behind_the_trait() {
    let client: Box<dyn Qmp> = Box::new(client(Script::ready().serve(table)).await);
    client.execute(Stop).await.unwrap();
    assert_eq!(client.version(), (10, 0, 2));
}
