//! Ctrl-C in a long step: the first one asks it to end in order, the second ends the program.

use std::sync::OnceLock;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use xlsnap::{Interrupt, async_trait};

/// SIGINT and SIGTERM, from the first long step on; before that they end the program as usual, and the next operation on the
/// domain finds what was left.
#[derive(Default)]
pub(crate) struct Signals {
    came: OnceLock<watch::Receiver<bool>>,
}

/// What a shell gives for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

#[async_trait]
impl Interrupt for Signals {
    async fn requested(&self) {
        let mut came = self.came.get_or_init(listen).clone();
        if came.wait_for(|came| *came).await.is_err() {
            // Signals cannot be caught: then none asks for the end.
            std::future::pending::<()>().await;
        }
    }
}

fn listen() -> watch::Receiver<bool> {
    let (tell, came) = watch::channel(false);
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    if let (Ok(mut int), Ok(mut term)) = signals {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                if tell.send_replace(true) {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    }
    came
}
