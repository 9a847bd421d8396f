//! Reads a domain snapshot's libxl-json and tells what it means: `cargo run --example normalise -- FILE`.

use std::error::Error;

use xlsnap_types::libxl::{DomainSnapshot, Mode, without_terminator};
use xlsnap_types::model::{Kind, Snapshot};

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: normalise FILE")?;
    let bytes = std::fs::read(file)?;
    let read = DomainSnapshot::from_json(without_terminator(&bytes), Mode::Strict)?;
    print!("{}", read.to_json());

    let snapshot = Snapshot::try_from(&read)?;
    println!("snapshot {} of {} disks", snapshot.name, snapshot.disks.len());
    for disk in &snapshot.disks {
        match &disk.kind {
            Kind::Internal => println!("  {}: {} in the image", disk.disk, disk.tag),
            Kind::External { file, format } => println!("  {}: on top of it {file} ({format})", disk.disk),
        }
        if let Some(vdev) = disk.disk.vdev() {
            println!("    Xen's device number {}", vdev.devid());
        }
    }
    Ok(())
}
