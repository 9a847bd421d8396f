//! A plan, for `--dry-run`.

use std::io::Write;

use xlsnap::{Operation, Step};
use xlsnap_types::model::{PassedOver, SnapshotName};

use crate::answer::PlanAnswer;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::words::notes;

/// A plan to be told.
pub(crate) struct Plan<'a> {
    pub(crate) domain: &'a str,
    pub(crate) operation: Operation,
    pub(crate) name: &'a SnapshotName,
    pub(crate) steps: &'a [Step],
    pub(crate) passed_over: &'a [PassedOver],
    pub(crate) warnings: &'a [String],
}

impl Plan<'_> {
    pub(crate) fn tell(&self, context: &Context) -> Result<Exit, Failure> {
        let Self { domain, operation, name, steps, passed_over, warnings } = *self;
        let json = PlanAnswer::new(domain, operation, name, steps, passed_over, warnings);
        context.answer(&json, |out, _| {
            writeln!(
                out,
                "{operation} {} of domain {}, if not for --dry-run:",
                visible(name.as_str()),
                visible(domain)
            )?;
            for (i, step) in steps.iter().enumerate() {
                writeln!(out, "  {}. {}", i + 1, visible(&step.what))?;
                let file = step.touches.as_deref().map(visible).unwrap_or_default();
                writeln!(out, "     {file} [{}]", step.by)?;
            }
            left_out(out, passed_over)?;
            notes(out, None, warnings)
        })?;
        Ok(Exit::Done)
    }
}

/// The disks that are not part of it, and why.
pub(crate) fn left_out(out: &mut dyn Write, passed_over: &[PassedOver]) -> Result<(), Failure> {
    for of in passed_over {
        writeln!(out, "  left out: {} ({})", of.disk, visible(&of.why))?;
    }
    Ok(())
}
