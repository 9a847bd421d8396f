//! The main job, step by step, on real machines: `main_job PATH-OF-XLSNAP`.
//!
//! Every step is shown as the line that a user would type, with what it answered, and every promise is looked up on the
//! disks, or on what the guest says. The first thing that goes wrong ends it, and the machine too.

mod disks;
mod memory;
mod place;

use std::process::ExitCode;

use place::{Place, say};
use xlsnap_testkit::real::Scratch;

fn main() -> ExitCode {
    let Some(xlsnap) = std::env::args_os().nth(1) else {
        eprintln!("usage: main_job PATH-OF-XLSNAP");
        return ExitCode::from(2);
    };
    for job in [disks::job, memory::job] {
        let scratch = Scratch::new();
        let place = Place { directory: scratch.dir().to_owned(), xlsnap: xlsnap.clone().into() };
        if let Err(error) = job(&place) {
            eprintln!("\nmain_job: {error}");
            return ExitCode::FAILURE;
        }
    }
    say("Done: every step did what it says.");
    ExitCode::SUCCESS
}
