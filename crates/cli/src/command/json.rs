//! `xlsnap json`: libxl-json in its canonical form.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use xlsnap_types::libxl::{self, Mode, StructType};

use crate::args::{Json, JsonType};
use crate::exit::Exit;
use crate::failure::Failure;

/// More than any snapshot's record, and little enough to hold.
const MAX_BYTES: u64 = 64 << 20;

pub(crate) fn run(args: &Json) -> Result<Exit, Failure> {
    let name = if args.file == Path::new("-") {
        "standard input".to_owned()
    } else {
        args.file.display().to_string()
    };
    let text = read(&args.file).map_err(|e| {
        let exit = if e.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("cannot read {name}")).because(&e)
    })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::new(Exit::Failed, format!("{name} has more than {MAX_BYTES} bytes")));
    }
    let kind = match args.kind {
        JsonType::DomainSnapshot => StructType::DomainSnapshot,
        JsonType::DiskSnapshot => StructType::DiskSnapshot,
    };
    let mode = if args.libxl { Mode::Libxl } else { Mode::Strict };
    let canonical = libxl::normalise(libxl::without_terminator(&text), kind, mode).map_err(|e| {
        Failure::new(Exit::Failed, format!("{name} is no libxl-json of a {kind}")).because(&e)
    })?;
    io::stdout().lock().write_all(canonical.as_bytes())?;
    Ok(Exit::Done)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more than allowed tells that there is more.
    if file == Path::new("-") {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut text)?;
    } else {
        File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    }
    Ok(text)
}
