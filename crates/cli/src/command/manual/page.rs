//! A manual page: what the definition of a command says, and what it cannot say.

use std::io;

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::examples::{Example, shown};
use crate::args::{ENVIRONMENT, EXIT_CODES};

/// Files that a command on domains reads or writes, and what they hold, as docs/formats.md names them: below the root.
pub(super) const FILES: [(&str, &str); 5] = [
    ("domains/<domain>.toml", "how a domain is reached and started, and its disks"),
    ("<uuid>/snapshotdata-<name>.libxl-json", "a snapshot, as libxl's struct"),
    ("<uuid>/snapshotmeta-<name>.json", "what that struct cannot hold"),
    ("<uuid>/<name>.save", "the guest's memory, unless it was put elsewhere"),
    ("<uuid>/journal.json", "the operation that goes on or was cut off"),
];

/// The page of a command, which is built, in roff.
pub(super) fn of(command: &clap::Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).source(concat!("xlsnap ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    rest(name).to_writer(&mut page)?;
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

fn rest(name: &str) -> Roff {
    let shown = shown(name);
    let mut roff = Roff::new();
    let item = |roff: &mut Roff, term: Inline, text: &str| {
        roff.control("TP", []).text([term]).text([roman(text)]);
    };
    roff.control("SH", ["EXIT STATUS"]).text([roman(EXIT_CODES)]);
    roff.control("SH", ["ENVIRONMENT"]).text([roman(ENVIRONMENT)]);
    if shown.files {
        roff.control("SH", ["FILES"]).text([roman(
            "All is below one directory, the root, which --root tells. A uuid is the domain's, a name the snapshot's.",
        )]);
        FILES.iter().for_each(|(file, holds)| item(&mut roff, italic(*file), holds));
    }
    roff.control("SH", ["EXAMPLES"]);
    for Example(line, what) in shown.examples {
        item(&mut roff, bold(*line), what);
    }
    roff.control("SH", ["SEE ALSO"]);
    let mut pages = Vec::new();
    let own = (name != "xlsnap").then_some("xlsnap");
    for (at, page) in own.into_iter().chain(shown.see.iter().copied()).enumerate() {
        if at > 0 {
            pages.push(roman(", "));
        }
        pages.extend([bold(page), roman("(1)")]);
    }
    roff.text(pages);
    roff
}
