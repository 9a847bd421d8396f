//! What planning sees of a running QEMU: `cargo run --example disks -- SOCKET`.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use xlsnap_orchestrator::{Disks, Guest, ImageFile, PortError};
use xlsnap_qemu::{Description, Live};
use xlsnap_qemu_img::Program;
use xlsnap_qmp_transport::{Client, Options};
use xlsnap_types::model::DiskName;

/// A machine without a description has none to change.
struct Nowhere;

#[async_trait]
impl Description for Nowhere {
    async fn set_images(&self, _: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os().nth(1).ok_or("usage: disks SOCKET")?;
    let client = Arc::new(Client::connect_unix(socket, Options::default()).await?);
    let live = Live::new(client, Arc::new(Program::default()), Vec::new(), Arc::new(Nowhere));
    println!("{:?}", live.state().await?);
    for disk in live.inventory().await?.disks {
        let internal =
            disk.internal.why().map_or("takes snapshots".to_owned(), |why| format!("takes none: {why}"));
        println!("{}: {} ({}, {} bytes), {internal}", disk.name, disk.image, disk.format, disk.virtual_size);
    }
    Ok(())
}
