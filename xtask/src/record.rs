//! `cargo xtask record`: new transcripts of a real QEMU.

use crate::command::{cargo, run};
use crate::{Done, Echo};

/// Runs the transport's recorder, which writes what a QEMU of this machine says to the commands that we send.
///
/// # Errors
/// What the recorder says.
pub fn record(arguments: &[String]) -> Done {
    let mut recorder = cargo("run --quiet --package xlsnap-qmp-transport --example record --");
    recorder.args(arguments);
    run(Echo::All, recorder)
}
