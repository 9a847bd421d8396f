//! What is dangerous about a monitor of QEMU: on real QEMU, and as a script where QEMU's timing is not certain.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use xlsnap_qmp_transport::commands::{
    Action, Cont, QueryNamedBlockNodes, QueryStatus, QueryVersion, Stop, Transaction,
};
use xlsnap_qmp_transport::schema::Schema;
use xlsnap_qmp_transport::session::{Config, DropReason, Output, Session};
use xlsnap_qmp_transport::{Client, Effect, Features, Kind, Options, Qmp, QmpExt};
use xlsnap_testkit::real::{Disk, Scratch, StorageDaemon, Vm, VmOptions};
use xlsnap_testkit::wire::{Answer, GREETING, Script, connect};

fn disks(scratch: &Scratch) -> Vec<Disk> {
    (0..4)
        .map(|n| Disk::qcow2(&format!("d{n}"), &scratch.qcow2_with(&format!("{n}.qcow2"), 8 << 20, 1)))
        .collect()
}

/// The reply of a former client's last command comes after the greeting and before the answer to `qmp_capabilities`.
#[tokio::test]
async fn a_stale_reply_is_not_taken_for_ours() {
    for stale in [
        r#"{"return": {}, "id": 1}"#,
        r#"{"return": {}, "id": "0000000000000007.0"}"#,
        r#"{"error": {"class": "GenericError", "desc": "old"}, "id": "0000000000000007.1"}"#,
        r#"{"error": {"class": "GenericError", "desc": "old"}}"#,
    ] {
        let script = Script::new()
            .send(format!("{GREETING}{stale}\r\n"))
            .read()
            .send(stale)
            .give(json!({}))
            .send(r#"{"return": {"status": "paused", "running": false}, "id": "0000000000000007.1"}"#)
            .serve(|_, _| Answer::Return(json!({"status": "running", "running": true})));
        let client = Client::from_stream(connect(script), "vm.qmp", Options::default()).await.unwrap();
        assert!(client.execute(QueryStatus).await.unwrap().running, "{stale}");
    }
}

/// Plays a client that sends a transaction over all disks and closes at once or after a while.
fn send_and_leave(path: &Path, name: &str, linger: Duration) {
    let mut stream = UnixStream::connect(path).unwrap();
    let mut session = Session::new(Config::new("former", 1), Instant::now());
    let mut buffer = [0; 4096];
    while !std::iter::from_fn(|| session.poll_output()).any(|output| matches!(output, Output::Negotiated)) {
        let count = stream.read(&mut buffer).unwrap();
        session.handle_input(Instant::now(), &buffer[..count]);
        if let Some(message) = session.poll_transmit() {
            stream.write_all(&message).unwrap();
        }
    }
    let actions: Vec<Value> = (0..4)
        .map(|n| json!({"type": "blockdev-snapshot-internal-sync", "data": {"device": format!("d{n}"), "name": name}}))
        .collect();
    let arguments = Map::from_iter([("actions".to_owned(), Value::from(actions))]);
    session.send("transaction", &arguments, None).unwrap();
    stream.write_all(&session.poll_transmit().unwrap()).unwrap();
    let until = Instant::now() + linger;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// What the next client is told at its start: it negotiates, and how many replies were dropped as stale.
fn stale_replies(path: &Path) -> usize {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut session = Session::new(Config::new("next", 2), Instant::now());
    let mut buffer = [0; 4096];
    let mut stale = 0;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        session.handle_input(Instant::now(), &buffer[..count]);
        while let Some(output) = session.poll_output() {
            match output {
                Output::Negotiated => return stale,
                Output::Dropped { why: DropReason::Stale, .. } => stale += 1,
                Output::Greeting(_) | Output::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if let Some(message) = session.poll_transmit() {
            stream.write_all(&message).unwrap();
        }
    }
}

/// A client that closes right after sending: whether the command is executed cannot be told, but it is all or
/// nothing, and the next client is not confused by the reply, which it usually gets.
#[tokio::test]
async fn a_client_that_leaves_early_leaves_the_next_one_its_reply() {
    let scratch = Scratch::new();
    let daemon = StorageDaemon::start(&scratch, &disks(&scratch));
    let mut stale = 0;
    let mut tries = 0;
    // Usually the first try suffices. The bound is there so that a QEMU that mended this fails the test.
    while stale == 0 && tries < 100 {
        let linger = Duration::from_micros(250 * (tries % 20));
        send_and_leave(daemon.qmp(), &format!("s{tries}"), linger);
        stale += stale_replies(daemon.qmp());
        tries += 1;

        send_and_leave(daemon.qmp(), &format!("c{tries}"), linger);
        let client = Client::connect_unix(daemon.qmp(), Options::default()).await.unwrap();
        let nodes = client.execute(QueryNamedBlockNodes::FLAT).await.unwrap();
        let name = format!("c{tries}");
        let with =
            nodes.iter().filter(|node| node.image.snapshots.iter().any(|one| one.name == name)).count();
        assert!(with == 0 || with == 4, "{with} disks of 4");
        client.close().await;
    }
    assert!(stale > 0, "no stale reply in {tries} tries: is this hazard gone?");
}

/// An abandoned command, then close: the next client gets nothing stale, because close waits.
#[tokio::test]
async fn close_leaves_the_monitor_clean() {
    let scratch = Scratch::new();
    let daemon = StorageDaemon::start(&scratch, &disks(&scratch));
    for round in 0..10 {
        let client = Client::connect_unix(daemon.qmp(), Options::default()).await.unwrap();
        let snapshot =
            Transaction::new((0..4).map(|n| Action::internal(format!("d{n}"), format!("s{round}"))));
        // Polled once, so that the driver has the command, and then dropped.
        tokio::select! {
            biased;
            _ = client.execute(snapshot) => {}
            () = tokio::task::yield_now() => {}
        }
        client.close().await;
        let path = daemon.qmp().clone();
        assert_eq!(tokio::task::spawn_blocking(move || stale_replies(&path)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_second_client_hears_nothing_until_the_first_leaves() {
    let scratch = Scratch::new();
    let vm = Vm::start(&scratch, &[], &VmOptions::default());
    let first = Client::connect_unix(vm.qmp(), Options::default()).await.unwrap();
    let mut impatient = Options::default();
    impatient.greeting_timeout = Duration::from_millis(100);
    let busy = Client::connect_unix(vm.qmp(), impatient.clone()).await.unwrap_err();
    assert_eq!((busy.kind(), busy.effect()), (Kind::Busy, Effect::None), "{busy}");
    let second = tokio::spawn(Client::connect_unix(vm.qmp().clone(), Options::default()));
    first.execute(QueryVersion).await.unwrap();
    assert!(!second.is_finished());
    first.close().await;
    second.await.unwrap().unwrap().close().await;
}

#[tokio::test]
async fn a_real_machine_answers_and_sends_events() {
    let scratch = Scratch::new();
    let mut vm = Vm::start(&scratch, &[], &VmOptions::default());
    let client = Client::connect_unix(vm.qmp(), Options::default()).await.unwrap();
    let mut events = client.events();
    assert!(!client.execute(QueryStatus).await.unwrap().running);
    client.execute(Cont).await.unwrap();
    assert!(client.execute(QueryStatus).await.unwrap().running);
    client.execute(Stop).await.unwrap();
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != "STOP") {
        names.push(events.recv().await.unwrap().name);
    }
    assert!(names.contains(&"RESUME".to_owned()), "{names:?}");
    let features = Features::query(&client).await.unwrap();
    let schema = Schema::query(&client).await.unwrap();
    for command in ["transaction", "query-status", "migrate"] {
        assert!(features.has_command(command) && schema.has_command(command), "{command}");
    }
    assert!(schema.has_action("blockdev-snapshot-internal-sync"));

    vm.kill();
    let error = client.execute(Stop).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Disconnected, "{error}");
    assert_ne!(error.effect(), Effect::Done);
}

/// A command that QEMU cannot read as JSON (it takes 1,024 levels) is answered without an id: it had no effect.
#[tokio::test]
async fn a_command_that_qemu_cannot_read_is_refused() {
    let scratch = Scratch::new();
    let daemon = StorageDaemon::start(&scratch, &[]);
    let client = Client::connect_unix(daemon.qmp(), Options::default()).await.unwrap();
    let deep = (0..1100).fold(json!(1), |inner, _| json!([inner]));
    let arguments = Map::from_iter([("x".to_owned(), deep)]);
    let error = client.execute_raw("query-version", arguments).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Rejected, Effect::None), "{error}");
    // One such command may give several errors; the ones after it belong to no request.
    client.close().await;
    let client = Client::connect_unix(daemon.qmp(), Options::default()).await.unwrap();
    client.execute(QueryVersion).await.unwrap();
}
