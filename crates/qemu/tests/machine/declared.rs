//! A dry run says what a run does: the commands that QEMU gets and the programs that run, stage for stage.

mod backend;
mod cases;
mod operation;
mod recorder;
mod tap;
