//! A plan, for `--dry-run`.

use std::io::Write;

use xlsnap::{Operation, PlannedStage};
use xlsnap_types::model::PassedOver;

use crate::answer::{PlanAnswer, SnapshotForm};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::time::Times;
use crate::render::words::{self, disks, notes};

/// A plan to be told.
pub(crate) struct Plan<'a> {
    pub(crate) domain: &'a str,
    pub(crate) operation: Operation,
    pub(crate) name: &'a str,
    /// The record that it makes of what is there.
    pub(crate) snapshot: Option<&'a SnapshotForm<'a>>,
    pub(crate) stages: &'a [PlannedStage],
    pub(crate) passed_over: &'a [PassedOver],
    pub(crate) warnings: &'a [String],
}

impl<'a> Plan<'a> {
    /// Of an operation that makes no record.
    pub(crate) fn of(
        domain: &'a str,
        operation: Operation,
        name: &'a str,
        stages: &'a [PlannedStage],
        warnings: &'a [String],
    ) -> Self {
        Self { domain, operation, name, snapshot: None, stages, passed_over: &[], warnings }
    }

    pub(crate) fn tell(&self, context: &Context) -> Result<Exit, Failure> {
        let Self { domain, operation, name, snapshot, stages, passed_over, warnings } = *self;
        let json = PlanAnswer::new(domain, operation, name, snapshot, stages, passed_over, warnings);
        context.answer(&json, |out, _| {
            match operation {
                Operation::Flatten if stages.is_empty() => {
                    writeln!(
                        out,
                        "no disk of domain {} stands on anything: nothing would be done",
                        visible(domain)
                    )?;
                }
                Operation::Flatten => {
                    writeln!(out, "to flatten the disks of domain {}, xlsnap would:", visible(domain))?;
                }
                Operation::Relocate => {
                    writeln!(
                        out,
                        "to follow the files of domain {} that were moved, xlsnap would:",
                        visible(domain)
                    )?;
                }
                _ => writeln!(
                    out,
                    "to {operation} snapshot {} of domain {}, xlsnap would:",
                    visible(name),
                    visible(domain)
                )?,
            }
            tell_stages(out, stages)?;
            if let Some(snapshot) = snapshot {
                writeln!(out, "the record will have:")?;
                writeln!(out, "  made:     {}", Times::local().human(snapshot.creation_time))?;
                writeln!(out, "  disks:    {}", disks(&snapshot.disks))?;
                if let Some(memory) = words::memory(snapshot) {
                    writeln!(out, "  memory:   {memory}")?;
                }
            }
            left_out(out, passed_over)?;
            notes(out, None, warnings)
        })?;
        Ok(Exit::Done)
    }
}

/// The stages, numbered: what each does, and below it the commands with the images and files that they change.
pub(crate) fn tell_stages(out: &mut dyn Write, stages: &[PlannedStage]) -> Result<(), Failure> {
    for (at, stage) in stages.iter().enumerate() {
        for (first, step) in stage.steps.iter().enumerate() {
            let number = if first == 0 { format!("{}.", at + 1) } else { String::new() };
            writeln!(out, "  {number:<3} {}", visible(&step.what))?;
        }
        for command in &stage.commands {
            write!(out, "        [{}]", visible(&command.command))?;
            for file in &command.files {
                write!(out, " {}", visible(file))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// The disks that are not part of it, and why.
pub(crate) fn left_out(out: &mut dyn Write, passed_over: &[PassedOver]) -> Result<(), Failure> {
    for of in passed_over {
        writeln!(out, "  left out: {} ({})", of.disk, visible(&of.why))?;
    }
    Ok(())
}
