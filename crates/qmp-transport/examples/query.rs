//! Shows the disks of a running QEMU and their snapshots: `cargo run --example query -- /run/vm.qmp`.

use std::process::ExitCode;

use xlsnap_qmp_transport::commands::{QueryBlock, QueryStatus};
use xlsnap_qmp_transport::{Client, Error, Features, Options, QmpExt};

async fn show(socket: &str) -> Result<(), Error> {
    let client = Client::connect_unix(socket, Options::default()).await?;
    let (major, minor, micro) = client.greeting().version;
    println!("QEMU {major}.{minor}.{micro} {}", client.greeting().package);
    // A storage daemon has neither a guest nor its drives.
    if Features::query(&client).await?.has_command("query-status") {
        println!("{:?}", client.execute(QueryStatus).await?.status);
        for drive in client.execute(QueryBlock).await? {
            let name = if drive.device.is_empty() { drive.qdev.unwrap_or_default() } else { drive.device };
            let Some(medium) = drive.inserted else {
                println!("{name}: empty");
                continue;
            };
            println!("{name}: {} ({}, {} bytes)", medium.file, medium.drv, medium.image.virtual_size);
            for snapshot in medium.image.snapshots {
                println!("  {} {}", snapshot.id, snapshot.name);
            }
        }
    }
    client.close().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(socket) = std::env::args().nth(1) else {
        eprintln!("give the path of a QMP socket");
        return ExitCode::from(2);
    };
    match show(&socket).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  because {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
