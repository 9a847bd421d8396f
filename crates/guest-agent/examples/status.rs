//! Says whether a guest's file systems hold still: `cargo run --example status -- /run/vm.qga`.

use std::process::ExitCode;
use std::time::Duration;

use xlsnap_guest_agent::{Client, Error, Status};

async fn status(socket: &str) -> Result<Status, Error> {
    let bound = Duration::from_secs(30);
    Client::connect_unix(socket, bound).await?.status(bound).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(socket) = std::env::args().nth(1) else {
        eprintln!("give the path of a guest agent's socket");
        return ExitCode::from(2);
    };
    match status(&socket).await {
        Ok(Status::Thawed) => println!("they take writes"),
        Ok(Status::Frozen) => println!("they hold still"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
