//! `xlsnap delete`.

use xlsnap::{DeleteRequest, Operation, Selector};

use super::plan::Plan;
use crate::answer::DeleteAnswer;
use crate::args::Delete;
use crate::context::{Context, absolute_text};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::words::notes;

pub(crate) fn run(context: &Context, args: &Delete) -> Result<Exit, Failure> {
    let request = DeleteRequest {
        name: args.name.clone(),
        children: args.children,
        metadata_only: args.metadata_only,
        no_merge: args.no_merge,
        rate: args.rate,
        into_base: args.into_base.iter().map(|file| absolute_text(file)).collect::<Result<_, _>>()?,
    };
    remove(context, &args.domain.selector()?, &request, args.dry_run)
}

/// Deletes the snapshot, or says how it would.
pub(crate) fn remove(
    context: &Context,
    selector: &Selector,
    request: &DeleteRequest,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let host = context.host()?;
    let domain = selector.domain.as_str();
    if dry_run {
        let planned = context.block_on(host.plan_delete(selector, request))??;
        return Plan::of(
            domain,
            Operation::Delete,
            request.name.as_str(),
            &planned.stages,
            &planned.plan.warnings,
        )
        .tell(context);
    }
    let watch = context.watch();
    let report = context.block_on(host.delete(selector, request, watch.call()))??;
    drop(watch);
    context.done(&DeleteAnswer::new(domain, &report), |out, style| {
        notes(out, report.recovered.as_ref(), &report.warnings)?;
        for name in &report.deleted {
            let name = visible(name.as_str());
            writeln!(out, "deleted snapshot {} of domain {}", style.strong(&name), visible(domain))?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
