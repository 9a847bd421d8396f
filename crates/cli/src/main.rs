#![doc = include_str!("../README.md")]

mod answer;
mod args;
mod command;
mod context;
mod exit;
mod failure;
mod logging;
mod render;
mod signals;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error).into(),
    };
    let json = cli.global.json;
    logging::start(&cli);
    match command::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => report(&failure, json).into(),
    }
}

/// Help and the version are answers; anything else is a mistake in the command line.
fn not_parsed(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // A reader who left early has seen enough.
        let _ = error.print();
        return Exit::Done;
    }
    // Not parsed, so not known for sure; the word is no other option's value that one would give.
    let json = std::env::args_os().any(|word| word == "--json");
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // clap's last line points at --help of the whole; the usage line above it names the command's.
    let text = text.trim_end().trim_end_matches("For more information, try '--help'.");
    report(&Failure::usage(text).advise("xlsnap help, or xlsnap help COMMAND"), json)
}

fn report(failure: &Failure, json: bool) -> Exit {
    let mut text = Vec::new();
    // Written at once, so that the lines of two processes do not mix. Nothing can be done when standard error is closed.
    let _ = failure.write(&mut text, json);
    let _ = io::stderr().write_all(&text);
    failure.exit()
}
