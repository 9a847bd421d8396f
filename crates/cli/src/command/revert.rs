//! `xlsnap revert`.

use xlsnap::{Operation, RevertRequest, RevertWay, Run, Selector};

use super::plan::{Plan, left_out};
use crate::answer::RevertAnswer;
use crate::args::Revert;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::words::notes;

pub(crate) fn run(context: &Context, args: &Revert) -> Result<Exit, Failure> {
    let request = RevertRequest {
        safety: args.safety.clone(),
        run: (args.running || args.paused).then_some(Run::if_it(args.running)),
        offline: args.offline,
        without_memory: args.without_memory,
        drop_bitmaps: args.drop_bitmaps,
        ..RevertRequest::new(args.name.clone())
    };
    bring_back(context, &args.domain.selector()?, &request, args.dry_run)
}

/// Brings the domain back to the snapshot, or says how it would.
pub(crate) fn bring_back(
    context: &Context,
    selector: &Selector,
    request: &RevertRequest,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let host = context.host()?;
    let domain = selector.domain.as_str();
    if dry_run {
        let planned = context.block_on(host.plan_revert(selector, request))??;
        let plan = Plan {
            domain,
            operation: Operation::Revert,
            name: planned.plan.name.as_str(),
            snapshot: None,
            stages: &planned.stages,
            passed_over: &planned.plan.untouched,
            warnings: &planned.plan.warnings,
        };
        return plan.tell(context);
    }
    let watch = context.watch();
    let report = context.block_on(host.revert(selector, request, watch.call()))??;
    drop(watch);
    context.done(&RevertAnswer::new(domain, &report), |out, style| {
        notes(out, report.recovered.as_ref(), &report.warnings)?;
        if let Some(name) = report.safety.as_ref().and_then(|safety| safety.record.snapshot.name.as_deref()) {
            writeln!(out, "made snapshot {} of what was there", visible(name))?;
        }
        let name = visible(report.name.as_str());
        writeln!(out, "domain {} is at snapshot {}", visible(domain), style.strong(&name))?;
        let disks: Vec<&str> = report.disks.iter().map(|disk| disk.as_str()).collect();
        writeln!(out, "  disks:    {}", disks.join(", "))?;
        writeln!(out, "  guest:    {}", guest(&report.way))?;
        left_out(out, &report.untouched)
    })?;
    Ok(Exit::Done)
}

/// How the guest is afterwards, as a clause.
fn guest(way: &RevertWay) -> &'static str {
    match way {
        RevertWay::Off => "off",
        RevertWay::Release { run: Run::Runs } => "was reset, and runs",
        RevertWay::Release { run: Run::Waits } => "was reset, and is paused",
        RevertWay::Restart { run: Run::Runs } => "starts anew",
        RevertWay::Restart { run: Run::Waits } => "was started anew, and is paused",
        RevertWay::Restore { run: Run::Runs, .. } | RevertWay::Load { run: Run::Runs, .. } => {
            "goes on where it was"
        }
        RevertWay::Restore { .. } | RevertWay::Load { .. } => "is where it was, paused",
    }
}
