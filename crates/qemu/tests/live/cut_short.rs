//! A merge that is cut short at each command: QEMU is killed, or the program that merges loses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value};
use xlsnap_orchestrator::{ImageFile, Layers, Overlays};
use xlsnap_qemu::Live;
use xlsnap_qemu_img::Program;
use xlsnap_qmp_transport::{Client, Effect, Error, EventStream, Kind, Qmp};
use xlsnap_testkit::real::{Data, LiveDisks};
use xlsnap_types::model::ImageFormat;

use crate::layers::{Tree, Unwatched, holds, layer, merge, own};
use crate::{Told, disk_name, spec, text};

/// What happens at a command.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// QEMU is killed.
    Killed,
    /// The connection is lost.
    Lost,
}

/// A client that is cut short at one command, before QEMU gets it or after it has answered.
struct CutShort {
    client: Client,
    at: &'static str,
    after: bool,
    how: Cut,
    pid: u32,
    is_cut: Arc<AtomicBool>,
}

impl CutShort {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        if matches!(self.how, Cut::Killed) {
            let pid = Pid::from_raw(self.pid.cast_signed()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        }
    }
}

#[async_trait]
impl Qmp for CutShort {
    async fn execute_raw(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        let lost = || Err(Error::new(Kind::Disconnected, Effect::Unknown, "cut short"));
        if command == self.at && !self.after {
            self.cut();
        }
        if self.is_cut.load(Ordering::Relaxed) {
            return lost();
        }
        let answer = self.client.execute_raw(command, arguments).await;
        if command == self.at {
            self.cut();
            return lost();
        }
        answer
    }

    fn events(&self) -> EventStream {
        self.client.events()
    }

    fn version(&self) -> (u32, u32, u32) {
        self.client.version()
    }
}

#[tokio::test]
async fn the_layer_that_takes_the_writes_is_merged_whatever_was_cut_short() {
    for at in ["block-commit", "stop", "job-complete", "blockdev-del", "query-jobs"] {
        each(at, false).await;
    }
}

#[tokio::test]
async fn a_layer_in_the_middle_is_merged_whatever_was_cut_short() {
    for at in ["block-commit", "human-monitor-command", "job-finalize", "query-jobs"] {
        each(at, true).await;
    }
}

async fn each(at: &'static str, in_the_middle: bool) {
    for how in [Cut::Killed, Cut::Lost] {
        for after in [false, true] {
            cut(at, after, how, in_the_middle).await;
        }
    }
}

/// Nothing is lost, and the merge again ends it.
async fn cut(at: &'static str, after: bool, how: Cut, in_the_middle: bool) {
    let case = format!("{how:?} at {at}, after it: {after}, in the middle: {in_the_middle}");
    let tree = Tree::new();
    let Tree { base, middle, top, second, .. } = &tree;
    let (from, into) = if in_the_middle { (middle, base) } else { (top, middle) };
    let merge = merge(from, into);
    let mut vm = tree.vm();
    vm.write("vda", own(5));
    vm.human("qemu-io -d /machine/peripheral/vda/virtio-backend flush");
    let is_cut = Arc::new(AtomicBool::new(false));
    let client = crate::connect(vm.qmp()).await;
    let qmp = CutShort { client, at, after, how, pid: vm.pid(), is_cut: Arc::clone(&is_cut) };
    let specs = || vec![spec("vda", top)];
    let live = Live::new(Arc::new(qmp), Arc::new(Program::default()), specs(), Arc::new(Told::default()));
    live.merge(&merge, &Unwatched).await.unwrap_err();
    assert!(is_cut.load(Ordering::Relaxed), "{case}");
    drop(live);

    let held = [Data::of(1), own(2), own(3), own(5)];
    let now = if in_the_middle { top } else { middle };
    let adopted = (disk_name("vda"), text(now), ImageFormat::Qcow2);
    if matches!(how, Cut::Killed) {
        vm.kill();
        assert!(holds(top, &held), "{case}");
        let images = tree.images(top);
        images.merge(&merge, &Unwatched).await.unwrap();
        if in_the_middle {
            images.reheader(&layer(top), &layer(base)).await.unwrap();
        }
        images
            .adopt(&[(adopted.0.clone(), ImageFile::new(adopted.1.clone(), adopted.2.clone()))])
            .await
            .unwrap();
        images.unlink(&layer(from)).await.unwrap();
    } else {
        let live = crate::live(vm.qmp(), specs()).await;
        live.merge(&merge, &Unwatched).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(vm.holds("vda", own(5)), "{case}");
        live.adopt(&[(adopted.0.clone(), ImageFile::new(adopted.1.clone(), adopted.2.clone()))])
            .await
            .unwrap();
        live.unlink(&layer(from)).await.unwrap();
        drop(live);
        vm.quit();
    }
    assert!(holds(now, &held), "{case}");
    if in_the_middle {
        tree.images(second).reheader(&layer(second), &layer(base)).await.unwrap();
        assert!(holds(second, &[Data::of(1), own(2), own(4)]), "{case}");
    }
    assert!(tree.inside_is_right(), "{case}");
}
