//! Which command does what.

use super::{create, delete, design_era, domain, flatten, health, json, list, manual, revert, show};
use crate::args::{Cli, Command};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<Exit, Failure> {
    let context = Context::new(cli.global);
    match &cli.command {
        Command::Create(args) => create::run(&context, args),
        Command::List(args) => list::run(&context, args),
        Command::Show(args) => show::run(&context, args),
        Command::Revert(args) => revert::run(&context, args),
        Command::Delete(args) => delete::run(&context, args),
        Command::Flatten(args) => flatten::run(&context, args),
        Command::Check(args) => health::check(&context, args),
        Command::Recover(args) => health::recover(&context, args),
        Command::Domain(command) => domain::run(&context, command),
        Command::Json(args) => json::run(args),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::man(args),
        Command::Help(args) => manual::help(&[], args),
        Command::SnapshotCreate(args) => design_era::create(&context, args),
        Command::SnapshotList(args) => design_era::list(&context, args),
        Command::SnapshotDelete(args) => design_era::delete(&context, args),
        Command::SnapshotRevert(args) => design_era::revert(&context, args),
    }
}
