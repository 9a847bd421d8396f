//! `xlsnap check --adopt` and `xlsnap check --delete-orphan`.

use xlsnap::{AdoptRequest, Host, Operation, OrphanRequest, Reversibility, Selector};

use super::plan::{Plan, left_out};
use crate::answer::{AdoptAnswer, OrphanAnswer, SnapshotForm};
use crate::args::Check;
use crate::context::{Context, selector};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::words::{self, can, disks, notes};

/// Either of them; the definition of the arguments has one, and a domain.
pub(crate) fn run(context: &Context, args: &Check) -> Result<Exit, Failure> {
    let host = context.host()?;
    let domain = args.domain.domain.as_ref().ok_or_else(|| Failure::usage("an orphan is one domain's"))?;
    let selector = selector(domain, &args.domain.monitor)?;
    let disks = args.disk.iter().cloned().collect();
    match (&args.adopt, &args.delete_orphan) {
        (Some(name), _) => {
            let request = AdoptRequest { name: name.clone(), disks };
            adopt(context, &host, &selector, &request, args.dry_run)
        }
        (None, orphan) => {
            let request = OrphanRequest { orphan: orphan.clone().unwrap_or_default(), disks };
            delete(context, &host, &selector, &request, args.dry_run)
        }
    }
}

fn adopt(
    context: &Context,
    host: &Host,
    selector: &Selector,
    request: &AdoptRequest,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let domain = selector.domain.as_str();
    if dry_run {
        let planned = context.block_on(host.plan_adopt(selector, request))??;
        let reversibility = Reversibility::of(&planned.plan.record, "nothing is adopted by a dry run");
        let snapshot = SnapshotForm::new(&planned.plan.record, &reversibility);
        let plan = Plan {
            domain,
            operation: Operation::Adopt,
            name: request.name.as_str(),
            snapshot: Some(&snapshot),
            stages: &planned.stages,
            passed_over: &planned.plan.passed_over,
            warnings: &planned.plan.warnings,
        };
        return plan.tell(context);
    }
    let watch = context.watch();
    let report = context.block_on(host.adopt(selector, request, watch.call()))??;
    drop(watch);
    let json = AdoptAnswer::new(domain, &report);
    let snapshot = &json.snapshot;
    context.done(&json, |out, style| {
        notes(out, report.recovered.as_ref(), &report.warnings)?;
        let name = style.strong(&visible(snapshot.name));
        writeln!(out, "made a record of snapshot {name} of domain {}", visible(domain))?;
        writeln!(out, "  disks:    {}", disks(&snapshot.disks))?;
        left_out(out, snapshot.passed_over)?;
        if let Some(memory) = words::memory(snapshot) {
            writeln!(out, "  memory:   {memory}")?;
        }
        writeln!(out, "  revert:   {}", can(snapshot.revert))?;
        writeln!(out, "  delete:   {}", can(snapshot.delete))?;
        Ok(())
    })?;
    Ok(Exit::Done)
}

fn delete(
    context: &Context,
    host: &Host,
    selector: &Selector,
    request: &OrphanRequest,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let domain = selector.domain.as_str();
    if dry_run {
        let planned = context.block_on(host.plan_delete_orphan(selector, request))??;
        return Plan::of(domain, Operation::Delete, &request.orphan, &planned.stages, &planned.plan.warnings)
            .tell(context);
    }
    let watch = context.watch();
    let report = context.block_on(host.delete_orphan(selector, request, watch.call()))??;
    drop(watch);
    context.done(&OrphanAnswer::new(domain, &report), |out, style| {
        notes(out, report.recovered.as_ref(), &report.warnings)?;
        let orphan = style.strong(&visible(&report.orphan));
        for target in &report.disks {
            writeln!(
                out,
                "deleted snapshot {orphan} from {} (disk {})",
                visible(&target.image),
                target.disk
            )?;
        }
        if let Some(file) = &report.file {
            writeln!(out, "removed {}", visible(file))?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
