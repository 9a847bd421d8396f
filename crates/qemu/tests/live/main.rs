//! The live adapter on real qemu-system and qemu-storage-daemon.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod agent;
mod cut_short;
mod delete;
mod described;
mod inventory;
mod layers;
mod names;
mod overlay;
mod rate;
mod revertible;
mod snapshot;
mod trouble;

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use xlsnap_orchestrator::{Disk, Disks, ImageFile, Overlay, PortError, SnapshotAction};
use xlsnap_qemu::{Description, DiskSpec, Live};
use xlsnap_qemu_img::Program;
use xlsnap_qmp_transport::{Client, Options};
use xlsnap_testkit::real::{Attach, Disk as Fixture, Scratch, VmOptions, qemu_img};
use xlsnap_types::model::{DiskName, ImageFormat};

const MIB: u64 = 1 << 20;

/// A description that remembers what it was told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<(DiskName, String, ImageFormat)>>);

#[async_trait]
impl Description for Told {
    async fn set_images(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        let named =
            images.iter().map(|(disk, image)| (disk.clone(), image.file.clone(), image.format.clone()));
        self.0.lock().unwrap().extend(named);
        Ok(())
    }
}

/// The adapter on a monitor.
async fn live(qmp: &Path, specs: Vec<DiskSpec>) -> Live {
    on(connect(qmp).await, specs)
}

async fn connect(qmp: &Path) -> Client {
    Client::connect_unix(qmp, Options::default()).await.unwrap()
}

fn on(client: Client, specs: Vec<DiskSpec>) -> Live {
    Live::new(Arc::new(client), Arc::new(Program::default()), specs, Arc::new(Told::default()))
}

/// A described writable qcow2 disk.
fn spec(name: &str, file: &Path) -> DiskSpec {
    DiskSpec::new(disk_name(name), text(file), ImageFormat::Qcow2)
}

fn disk_name(name: &str) -> DiskName {
    DiskName::new(name).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn attached_by(attach: Attach) -> VmOptions {
    VmOptions { attach, ..VmOptions::default() }
}

fn with_arguments(arguments: &[&str]) -> VmOptions {
    VmOptions { arguments: arguments.iter().map(|word| (*word).to_owned()).collect(), ..VmOptions::default() }
}

/// Two qcow2 disks that hold 1 and 2.
fn two_disks(scratch: &Scratch) -> [Fixture; 2] {
    let [a, b] = [("vda", 1), ("vdb", 2)].map(|(name, byte)| {
        let file = scratch.qcow2_with(&format!("{name}.qcow2"), 4 * MIB, byte);
        Fixture::qcow2(name, &file)
    });
    [a, b]
}

async fn disks(live: &Live) -> Vec<Disk> {
    live.inventory().await.unwrap().disks
}

/// The disk of that name, as it is now.
async fn disk(live: &Live, name: &str) -> Disk {
    disks(live).await.into_iter().find(|disk| disk.name.as_str() == name).unwrap()
}

/// The names of the snapshots in a disk, as QEMU says.
async fn tags(live: &Live, name: &str) -> Vec<String> {
    disk(live, name).await.snapshots.into_iter().map(|snapshot| snapshot.name).collect()
}

fn internal(disk: &str, tag: &str) -> SnapshotAction {
    SnapshotAction::Internal { disk: disk_name(disk), tag: tag.into(), image: String::new() }
}

/// An overlay of 4 MiB for `disk` on `base`.
fn overlay(disk: &str, file: &Path, base: &Path) -> Overlay {
    Overlay {
        disk: disk_name(disk),
        file: text(file),
        format: ImageFormat::Qcow2,
        base: text(base),
        base_format: ImageFormat::Qcow2,
        virtual_size: 4 * MIB,
        token: format!("0123456789abcdefghi{disk}"),
    }
}

/// Makes an image that no process has open what it was at the snapshot.
fn apply(file: &Path, tag: &str) {
    qemu_img(&["snapshot", "-a", tag, file.to_str().unwrap()]);
}
