//! QEMU ends, hangs or lies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use xlsnap_orchestrator::{Disks, Effect, Guest, PortErrorKind};
use xlsnap_qemu::Live;
use xlsnap_qemu_img::Program;
use xlsnap_qmp_transport::{Client, Error, EventStream, Kind, Options, Qmp};
use xlsnap_testkit::real::{Scratch, StorageDaemon, Vm, VmOptions, snapshots_in};

use crate::{Told, internal, live, two_disks};

/// Stops a process, so that what is sent to it stays in flight.
fn freeze(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
}

#[tokio::test]
async fn a_qemu_killed_with_the_transaction_in_flight_leaves_the_effect_unknown() {
    let scratch = Scratch::new();
    let fixtures = two_disks(&scratch);
    let mut vm = Vm::start(&scratch, &fixtures, &VmOptions::default());
    let live = Arc::new(live(vm.qmp(), Vec::new()).await);
    live.inventory().await.unwrap();
    freeze(vm.pid());
    let snapshot = tokio::spawn({
        let live = Arc::clone(&live);
        async move { live.snapshot(&[internal("vda", "s"), internal("vdb", "s")]).await }
    });
    // All else on this thread runs first each time, until everything waits for the answer that does not come.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    vm.kill();
    let error = snapshot.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Unreachable, Effect::Unknown));
    for fixture in &fixtures {
        assert!(snapshots_in(fixture.file.as_ref().unwrap()).is_empty());
    }
    // From then on it is clear that nothing happens.
    let error = live.inventory().await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Unreachable, Effect::None));
    assert_eq!(live.state().await.unwrap_err().kind, PortErrorKind::Unreachable);
}

#[tokio::test]
async fn a_qemu_that_does_not_answer_leaves_the_effect_unknown() {
    let scratch = Scratch::new();
    let daemon = StorageDaemon::start(&scratch, &two_disks(&scratch));
    let mut options = Options::default();
    options.call_timeout = Duration::from_millis(300);
    let client = Arc::new(Client::connect_unix(daemon.qmp(), options).await.unwrap());
    let live = Live::new(client, Arc::new(Program::default()), Vec::new(), Arc::new(Told::default()));
    live.inventory().await.unwrap();
    freeze(daemon.pid());
    let error = live.snapshot(&[internal("vda", "s")]).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Unreachable, Effect::Unknown));
}

#[tokio::test]
async fn a_monitor_that_another_client_holds_is_busy() {
    let scratch = Scratch::new();
    let daemon = StorageDaemon::start(&scratch, &two_disks(&scratch));
    let _holder = Client::connect_unix(daemon.qmp(), Options::default()).await.unwrap();
    let mut options = Options::default();
    options.greeting_timeout = Duration::from_millis(200);
    let error = Client::connect_unix(daemon.qmp(), options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
}

/// A QEMU that answers one command with what it is given, and refuses all others.
struct Liar {
    command: &'static str,
    answer: Value,
    state: &'static str,
}

#[async_trait]
impl Qmp for Liar {
    async fn execute_raw(&self, command: &str, _arguments: Map<String, Value>) -> Result<Value, Error> {
        match command {
            _ if command == self.command => Ok(self.answer.clone()),
            "query-block" | "query-block-jobs" => Ok(json!([])),
            "qom-get" => Ok(json!("pc")),
            // Asked only because the answers here have no `active`, like those of QEMU 7.2.
            "query-status" => Ok(json!({"running": false, "status": self.state})),
            _ => Err(Error::rejected(command, "CommandNotFound", "it has not been found")),
        }
    }

    fn events(&self) -> EventStream {
        tokio::sync::broadcast::channel(1).1
    }

    fn version(&self) -> (u32, u32, u32) {
        (10, 0, 2)
    }
}

#[tokio::test]
async fn an_answer_without_measure_is_not_believed() {
    let device = |name: &str, snapshots: Value| {
        json!({"device": name, "inserted": {
            "node-name": "n", "drv": "qcow2", "file": "/f", "ro": false,
            "image": {"filename": "/f", "format": "qcow2", "virtual-size": 1, "snapshots": snapshots},
        }})
    };
    let snapshot = |name: &str| json!({"id": "1", "name": name});
    let devices: Vec<Value> = (0..5000).map(|n| device(&n.to_string(), json!([]))).collect();
    let long = "x".repeat(2000);
    for answer in [
        json!(devices),
        json!([device(&long, json!([]))]),
        json!([device("d", json!([snapshot(&long)]))]),
        json!([device("d", json!(vec![snapshot("s"); 70_000]))]),
        json!({"not": "a list"}),
    ] {
        let liar = Arc::new(Liar { command: "query-block", answer, state: "paused" });
        let live = Live::new(liar, Arc::new(Program::default()), Vec::new(), Arc::new(Told::default()));
        let error = live.inventory().await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Unreachable, Effect::None), "{error}");
    }
    for (state, can) in [("paused", true), ("postmigrate", false), ("inmigrate", false)] {
        let answer = json!([device("d", json!([snapshot("s")]))]);
        let sane = Arc::new(Liar { command: "query-block", answer, state });
        let live = Live::new(sane, Arc::new(Program::default()), Vec::new(), Arc::new(Told::default()));
        let disks = live.inventory().await.unwrap().disks;
        assert_eq!((disks.len(), disks[0].internal.is_yes()), (1, can), "{state}");
    }
}
