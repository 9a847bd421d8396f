//! Every command line of the documents, run in a sandbox from top to bottom; what they show is what is printed.
//!
//! A document is its own test: its `sh` and `console` blocks are read from the Markdown. Two comments, which a reader of the page
//! does not see, are for this test:
//!
//! - `<!-- run: LINES -->` prepares what the reader has already, say an image, or does what the text speaks of.
//! - `<!-- not run: REASON -->` before a block says why its lines cannot be run in a sandbox. They are parsed all the same, by the
//!   unit tests of the command line.
//!
//! How many blocks of a document are not run stands in its test, so that none is left out by the way.
//!
//! A line of a `sh` block ends with code 0, or with the one that its own comment tells (`# exit code 7`). Absolute paths are the
//! sandbox's, and numbers, times and ids may be others than the document shows.
//!
//! trycmd, which runs the `console` blocks of a Markdown file, would not do: it splits a line into words without a shell (no pipe, no
//! variable, no loop, no process in the background), and has neither of the two comments.

mod blocks;
mod manual;
mod output;
mod session;

use std::path::Path;

use xlsnap_testkit::real::Scratch;
use xlsnap_testkit::real::guest::{Boot, Count, Guest};

use session::Session;

/// Carries out a document, of which so many blocks are not run.
fn carry_out(name: &str, left_out: usize) {
    let document = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(name);
    let document = std::fs::read_to_string(document).unwrap();
    let scratch = Scratch::new();
    // It counts on its first disk, and has a file system on the second.
    let count = Count { disks: 1, file_system: true, ..Count::default() };
    let table = Boot::with_agent(count).start_table(Path::new("/dev/null"));
    let is_documented = |line: &str| line.starts_with("memory") || line.starts_with("serial");
    // The document gives the machine two processors. One is enough for a guest that counts, and needs no other to wake up in time,
    // which an emulated one may not on a busy machine.
    let table = table.replace("append = \"", "append = \"maxcpus=1 ");
    let guest: String =
        table.lines().filter(|line| !is_documented(line)).map(|line| format!("{line}\n")).collect();
    let session = Session::new(scratch.dir(), Path::new(env!("CARGO_BIN_EXE_xlsnap")), &guest);
    std::fs::rename(Guest::file_system(&scratch).file.unwrap(), scratch.path("home/file-system")).unwrap();
    assert_eq!(session.carry_out(name, &document), left_out, "{name}: blocks that are not run");
}

#[test]
fn the_readme_is_true() {
    carry_out("README.md", 1);
}

#[test]
fn the_readme_of_the_command_is_true() {
    carry_out("crates/cli/README.md", 0);
}

#[test]
fn the_cookbook_is_true() {
    carry_out("docs/cookbook.md", 1);
}

#[test]
fn what_is_said_of_failures_is_true() {
    carry_out("docs/errors.md", 0);
}
