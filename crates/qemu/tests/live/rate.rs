//! How fast QEMU's jobs move data: as they were begun, and as they are met again.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use xlsnap_orchestrator::{Can, Layers, Merge, PortError, Stream};
use xlsnap_qemu::Live;
use xlsnap_testkit::real::{Data, Vm, write_offline};

use crate::layers::{Tree, Unwatched, layer, merge};
use crate::{MIB, live, spec};

/// Longer than any job here takes to begin.
const PATIENCE: Duration = Duration::from_secs(30);

fn rate(bytes: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(bytes)
}

/// The speeds of QEMU's block jobs.
fn speeds(vm: &Vm) -> Vec<u64> {
    let jobs = vm.monitor().must("query-block-jobs", json!({}));
    jobs.as_array().unwrap().iter().map(|job| job["speed"].as_u64().unwrap()).collect()
}

/// Waits until the only job has this speed, and drops what moves the data then, as a crash would.
async fn until(vm: &Vm, speed: u64, moving: impl Future<Output = Result<(), PortError>>) {
    let has_it = async {
        while speeds(vm) != [speed] {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(PATIENCE, async {
        tokio::select! {
            done = moving => panic!("it is done already: {done:?}"),
            () = has_it => {}
        }
    });
    waited.await.unwrap_or_else(|_| panic!("no job has the speed {speed}: {:?}", speeds(vm)));
}

/// Files with so much in them that a job with a limit takes minutes.
fn tree() -> Tree {
    let tree = Tree::new();
    for file in [&tree.middle, &tree.top] {
        for at in 0..16 {
            write_offline(file, "qcow2", Data::of(9).at(2 * MIB + at * 65536));
        }
    }
    tree
}

async fn on(vm: &Vm, top: &Path) -> Live {
    live(vm.qmp(), vec![spec("vda", top)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_has_its_speed_and_gets_another_when_it_is_met_again() {
    for in_the_middle in [false, true] {
        let tree = tree();
        let Tree { base, middle, top, .. } = &tree;
        let vm = tree.vm();
        let live = on(&vm, top).await;
        let of = |bytes| Merge {
            rate: rate(bytes),
            ..if in_the_middle { merge(middle, base) } else { merge(top, middle) }
        };
        until(&vm, 4096, live.merge(&of(4096), &Unwatched)).await;
        // What met it does not know of a limit, and leaves it.
        until(&vm, 4096, live.merge(&Merge { rate: None, ..of(1) }, &Unwatched)).await;
        until(&vm, 8192, live.merge(&of(8192), &Unwatched)).await;
        live.park(&of(8192)).await.unwrap();
        assert!(speeds(&vm).is_empty());
        vm.quit();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_up_at_its_speed() {
    let tree = tree();
    let Tree { base, middle, top, second, .. } = &tree;
    let vm = tree.vm();
    let live = on(&vm, top).await;
    let of = |bytes| Stream {
        into: layer(top),
        was: layer(middle),
        below: Some(layer(base)),
        rate: rate(bytes),
        token: "0123456789abcdefghijklmn".into(),
    };
    assert_eq!(live.limits(&of(4096)).await.unwrap(), Can::Yes);
    until(&vm, 4096, live.stream(&of(4096), &Unwatched)).await;
    until(&vm, 8192, live.stream(&of(8192), &Unwatched)).await;
    assert!(!live.park_stream(&of(8192)).await.unwrap());
    assert!(speeds(&vm).is_empty());
    // qemu-img does it.
    let beside = Stream { into: layer(second), ..of(4096) };
    assert!(live.limits(&beside).await.unwrap().why().is_some());
    vm.quit();
    assert!(tree.images(top).limits(&of(4096)).await.unwrap().why().is_some());
}
