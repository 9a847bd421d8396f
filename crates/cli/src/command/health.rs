//! `xlsnap check` and `xlsnap recover`.

use std::io::Write;

use xlsnap::{CheckReport, CheckRequest, Finding, Host, Outcome, Repair, Selector};

use super::plan::tell_stages;
use super::{orphan, relocate};
use crate::answer::{
    CheckAnswer, CheckOfDomain, RecoverAnswer, RecoverOfDomain, RecoverPlanAnswer, RepairPlanAnswer,
};
use crate::args::{Check, MaybeDomain, Recover};
use crate::context::{Context, selector};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::style::Style;
use crate::render::text::visible;
use crate::render::words::notes;

pub(crate) fn check(context: &Context, args: &Check) -> Result<Exit, Failure> {
    if args.adopt.is_some() || args.delete_orphan.is_some() {
        return orphan::run(context, args);
    }
    if !args.relocate.is_empty() {
        return relocate::run(context, args);
    }
    let host = context.host()?;
    let watch = context.watch();
    // They differ in what the user goes on with, which is not for a check to do.
    let keep_base = args.keep_base.iter().chain(&args.keep_overlay).cloned().collect();
    let request = CheckRequest { repair: args.repair, deep: args.deep, keep_base };
    if args.dry_run {
        return plan_check(context, &host, args, &request);
    }
    let mut failed = None;
    let domains = context.block_on(async {
        let mut domains = Vec::new();
        for selector in selectors(&host, &args.domain).await? {
            match host.check(&selector, &request, watch.call()).await {
                Ok(report) => domains.push(CheckOfDomain { domain: selector.to_string(), report }),
                Err(error) if args.domain.domain.is_none() => go_on(context, &mut failed, error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok::<_, Failure>(domains)
    })??;
    drop(watch);
    let answer = CheckAnswer::new(domains);
    context.answer(&answer, |out, style| {
        for CheckOfDomain { domain, report } in answer.domains() {
            tell_findings(out, style, domain, report)?;
        }
        Ok(())
    })?;
    let left = answer.domains().iter().any(|of| of.report.unmended());
    Ok(failed.unwrap_or(if left { Exit::FindingsLeft } else { Exit::Done }))
}

/// What a check finds, and what a repair would do, domain by domain.
fn plan_check(context: &Context, host: &Host, args: &Check, request: &CheckRequest) -> Result<Exit, Failure> {
    let mut failed = None;
    let domains = context.block_on(async {
        let mut domains = Vec::new();
        for selector in selectors(host, &args.domain).await? {
            match host.plan_check(&selector, request).await {
                Ok(planned) => domains.push((selector.to_string(), planned)),
                Err(error) if args.domain.domain.is_none() => go_on(context, &mut failed, error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok::<_, Failure>(domains)
    })??;
    let answer = RepairPlanAnswer::new(&domains);
    context.answer(&answer, |out, style| {
        for (domain, planned) in &domains {
            tell_findings(out, style, domain, &planned.plan)?;
            if !planned.stages.is_empty() {
                writeln!(out, "to repair domain {}, xlsnap would:", visible(domain))?;
                tell_stages(out, &planned.stages)?;
            }
        }
        Ok(())
    })?;
    let left = domains.iter().any(|(_, planned)| planned.plan.unmended());
    Ok(failed.unwrap_or(if left { Exit::FindingsLeft } else { Exit::Done }))
}

/// How what was interrupted would end, domain by domain.
fn plan_recover(context: &Context, host: &Host, args: &Recover) -> Result<Exit, Failure> {
    let mut failed = None;
    let domains = context.block_on(async {
        let mut domains = Vec::new();
        for selector in selectors(host, &args.domain).await? {
            match host.plan_recover(&selector, args.without_memory).await {
                Ok(planned) => domains.push((selector.to_string(), planned)),
                Err(error) if args.domain.domain.is_none() => go_on(context, &mut failed, error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok::<_, Failure>(domains)
    })??;
    let answer = RecoverPlanAnswer::new(&domains);
    context.answer(&answer, |out, _| {
        for (domain, planned) in &domains {
            let domain = visible(domain);
            let Some(plan) = &planned.plan else {
                writeln!(out, "domain {domain}: nothing to recover")?;
                continue;
            };
            let how = match plan.outcome {
                Outcome::Completed => "complete",
                Outcome::Undone => "undo",
            };
            let (operation, name) = (plan.operation, visible(plan.name.as_str()));
            writeln!(
                out,
                "to {how} the interrupted {operation} of snapshot {name} of domain {domain}, xlsnap would:"
            )?;
            tell_stages(out, &planned.stages)?;
            notes(out, None, &plan.warnings)?;
        }
        Ok(())
    })?;
    Ok(failed.unwrap_or(Exit::Done))
}

pub(crate) fn recover(context: &Context, args: &Recover) -> Result<Exit, Failure> {
    let host = context.host()?;
    if args.dry_run {
        return plan_recover(context, &host, args);
    }
    let watch = context.watch();
    let mut failed = None;
    let domains = context.block_on(async {
        let mut domains = Vec::new();
        for selector in selectors(&host, &args.domain).await? {
            let recovered = if args.without_memory {
                host.recover_without_memory(&selector, watch.call()).await
            } else {
                host.recover(&selector, watch.call()).await
            };
            match recovered {
                Ok(recovered) => domains.push(RecoverOfDomain { domain: selector.to_string(), recovered }),
                Err(error) if args.domain.domain.is_none() => go_on(context, &mut failed, error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok::<_, Failure>(domains)
    })??;
    drop(watch);
    let answer = RecoverAnswer::new(domains);
    context.answer(&answer, |out, _| {
        for RecoverOfDomain { domain, recovered } in answer.domains() {
            let domain = visible(domain);
            match recovered {
                None => writeln!(out, "domain {domain}: nothing to recover")?,
                Some(recovered) => {
                    writeln!(out, "domain {domain}: {}", visible(&recovered.to_string()))?;
                    notes(out, None, &recovered.warnings)?;
                }
            }
        }
        Ok(())
    })?;
    Ok(failed.unwrap_or(Exit::Done))
}

async fn selectors(host: &Host, domain: &MaybeDomain) -> Result<Vec<Selector>, Failure> {
    match &domain.domain {
        Some(domain_name) => Ok(vec![selector(domain_name, &domain.monitor)?]),
        None => Ok(host.domains().await?),
    }
}

/// One domain's failure is told at once and does not keep the others from being looked at; the first one decides the exit
/// code.
pub(super) fn go_on(context: &Context, failed: &mut Option<Exit>, failure: Failure) {
    let exit = crate::report(&failure, context.json());
    failed.get_or_insert(exit);
}

fn tell_findings(
    out: &mut dyn Write,
    style: Style,
    domain: &str,
    report: &CheckReport,
) -> Result<(), Failure> {
    let domain = visible(domain);
    if let Some(recovered) = &report.recovered {
        writeln!(out, "domain {domain}: {}", visible(&recovered.to_string()))?;
        notes(out, None, &recovered.warnings)?;
    }
    if report.findings.is_empty() {
        writeln!(out, "domain {domain}: {}", style.good("all is well"))?;
    }
    for finding in &report.findings {
        let Finding { code, disk, snapshot, what, risk, repair, advice } = finding;
        let code = match repair {
            Repair::Done => style.good(code.as_str()),
            Repair::Possible | Repair::ByHand => style.bad(code.as_str()),
        };
        write!(out, "domain {domain}")?;
        if let Some(snapshot) = snapshot {
            write!(out, ", snapshot {}", visible(snapshot))?;
        }
        if let Some(disk) = disk {
            write!(out, ", disk {disk}")?;
        }
        writeln!(out, ": {} [{code}]", visible(what))?;
        writeln!(out, "  at risk: {}", visible(risk))?;
        let lead = match repair {
            Repair::Done => "repaired",
            Repair::Possible => "--repair",
            Repair::ByHand => "by hand",
        };
        writeln!(out, "  {lead}: {}", visible(advice))?;
    }
    Ok(())
}
