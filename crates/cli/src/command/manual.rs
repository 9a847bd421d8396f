//! `xlsnap completions`, `xlsnap man` and `xlsnap help`: made from the same definitions that parse.

mod examples;
mod page;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::args::{Cli, Completions, Help, Man};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;

pub(crate) fn completions(args: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xlsnap", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &Man) -> Result<Exit, Failure> {
    let cli = built();
    let Some(directory) = &args.out else {
        io::stdout().lock().write_all(&page::of(&cli)?)?;
        return Ok(Exit::Done);
    };
    all(&cli, directory).map_err(|e| {
        Failure::new(Exit::Failed, format!("cannot write the pages into {}", directory.display())).because(&e)
    })?;
    Ok(Exit::Done)
}

/// Writes the page of a command and of those that it holds.
fn all(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    fs::write(directory.join(format!("{name}.1")), page::of(command)?)?;
    command.get_subcommands().try_for_each(|of_it| all(of_it, directory))
}

/// Prints the help of the command that the words name, after those that `of` names already.
pub(crate) fn help(of: &[&str], args: &Help) -> Result<Exit, Failure> {
    let mut cli = built();
    let mut command = &mut cli;
    let mut known = "xlsnap".to_owned();
    for word in of.iter().copied().chain(args.command.iter().map(String::as_str)) {
        command =
            command.find_subcommand_mut(word).ok_or_else(|| {
                Failure::usage(format!("there is no command {known} {}", visible(word)))
                    .advise(known.replacen("xlsnap", "xlsnap help", 1))
            })?;
        known = format!("{known} {word}");
    }
    command.print_long_help()?;
    Ok(Exit::Done)
}

/// The definitions, each with its whole name and the options of every command.
fn built() -> clap::Command {
    let mut cli = Cli::command();
    cli.build();
    cli
}
