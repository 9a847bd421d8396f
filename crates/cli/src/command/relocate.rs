//! `xlsnap check --relocate`.

use xlsnap::{FileMove, Operation, RelocateRequest};

use super::plan::Plan;
use crate::answer::RelocateAnswer;
use crate::args::Check;
use crate::context::{Context, absolute_text, selector};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::words::notes;

/// The definition of the arguments has a domain.
pub(crate) fn run(context: &Context, args: &Check) -> Result<Exit, Failure> {
    let host = context.host()?;
    let domain = args.domain.domain.as_ref().ok_or_else(|| Failure::usage("files are one domain's"))?;
    let selector = selector(domain, &args.domain.monitor)?;
    let domain = selector.domain.as_str();
    let named = |moved: &crate::args::Relocated| {
        Ok(FileMove { old: absolute_text(&moved.old)?, new: absolute_text(&moved.new)? })
    };
    let moves = args.relocate.iter().map(named).collect::<Result<_, Failure>>()?;
    let request = RelocateRequest { moves, keep_base: args.keep_base.iter().cloned().collect() };
    if args.dry_run {
        let planned = context.block_on(host.plan_relocate(&selector, &request))??;
        return Plan::of(domain, Operation::Relocate, "", &planned.stages, &planned.plan.warnings)
            .tell(context);
    }
    let watch = context.watch();
    let report = context.block_on(host.relocate(&selector, &request, watch.call()))??;
    drop(watch);
    context.done(&RelocateAnswer::new(domain, &report), |out, style| {
        notes(out, report.recovered.as_ref(), &report.warnings)?;
        for file in &report.files {
            let (from, to) = (visible(&file.from), visible(&file.to));
            writeln!(
                out,
                "disk {} of domain {}: {from} is {} now",
                file.disk,
                visible(domain),
                style.strong(&to)
            )?;
        }
        for file in &report.memory {
            let (snapshot, from, to) = (file.snapshot.as_str(), visible(&file.from), visible(&file.to));
            writeln!(
                out,
                "memory of snapshot {snapshot} of domain {}: {from} is {} now",
                visible(domain),
                style.strong(&to)
            )?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
