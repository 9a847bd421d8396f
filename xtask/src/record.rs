//! `cargo xtask record`: new transcripts of a real QEMU.

use std::process::Stdio;

use crate::command::{cargo, run};
use crate::{Done, Echo};

/// Runs the transport's recorder, which writes what the QEMU of this machine says to the commands that we send. Without
/// `arguments` the recordings in the checkout are written anew.
///
/// # Errors
/// What the recorder says.
pub fn record(arguments: &[String]) -> Done {
    let mut recorder = cargo("run --quiet --locked --package xlsnap-qmp-transport --example record --");
    match arguments {
        [] => recorder.arg("crates/qmp-transport/tests"),
        // It may be told to read its input.
        given => recorder.args(given).stdin(Stdio::inherit()),
    };
    run(Echo::All, recorder)
}
