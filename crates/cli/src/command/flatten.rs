//! `xlsnap flatten`.

use xlsnap::{FlattenRequest, Operation};

use super::plan::Plan;
use crate::answer::FlattenAnswer;
use crate::args::Flatten;
use crate::context::{Context, absolute_text};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::words::notes;

pub(crate) fn run(context: &Context, args: &Flatten) -> Result<Exit, Failure> {
    let request = FlattenRequest {
        disks: args.disks.iter().cloned().collect(),
        keep: args.keep,
        rate: args.rate,
        into_base: args.into_base.iter().map(|file| absolute_text(file)).collect::<Result<_, _>>()?,
    };
    let selector = args.domain.selector()?;
    let host = context.host()?;
    let domain = selector.domain.as_str();
    if args.dry_run {
        let planned = context.block_on(host.plan_flatten(&selector, &request))??;
        return Plan::of(domain, Operation::Flatten, "", &planned.stages, &planned.plan.warnings)
            .tell(context);
    }
    let watch = context.watch();
    let report = context.block_on(host.flatten(&selector, &request, watch.call()))??;
    drop(watch);
    context.done(&FlattenAnswer::new(domain, &report), |out, style| {
        notes(out, report.recovered.as_ref(), &report.warnings)?;
        for name in &report.deleted {
            let name = visible(name.as_str());
            writeln!(out, "deleted snapshot {} of domain {}", style.strong(&name), visible(domain))?;
        }
        for disk in &report.disks {
            let disk = visible(disk.as_str());
            writeln!(out, "flattened disk {} of domain {}", style.strong(&disk), visible(domain))?;
        }
        if report.disks.is_empty() {
            writeln!(out, "nothing had to be copied into a disk of domain {}", visible(domain))?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
