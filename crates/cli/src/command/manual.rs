//! `xlsnap completions` and `xlsnap man`: made from the same definitions that parse.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::args::{Cli, Completions, Man};
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn completions(args: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xlsnap", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &Man) -> Result<Exit, Failure> {
    if let Some(directory) = &args.out {
        clap_mangen::generate_to(Cli::command(), directory).map_err(|e| {
            Failure::new(Exit::Failed, format!("cannot write the pages into {}", directory.display()))
                .because(&e)
        })?;
        return Ok(Exit::Done);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    io::stdout().lock().write_all(&page)?;
    Ok(Exit::Done)
}
