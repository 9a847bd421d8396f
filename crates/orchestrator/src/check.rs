//! Comparing what is recorded with what is there.

mod compare;
mod memory;
mod repair;

use tracing::Instrument;

use compare::{Compared, Fix};

use crate::error::from_store;
use crate::recover::{finish, left};
use crate::session::{Session, chain};
use crate::{CheckReport, CheckRequest, DomainRef, Error, Finding, Ports, Repair};

/// Compares records, images, overlays and the journal, and with [`CheckRequest::repair`] mends what it can without losing
/// anything: it finishes what a crash left, and corrects records. It deletes nothing from an image: what no record names is
/// somebody's.
///
/// The codes of the findings are listed in docs/errors.md.
///
/// # Errors
/// When the domain's lock cannot be had, or records or disks cannot be read at all.
///
/// # Cancel safety
/// Each repair is one step, done or not.
pub async fn check(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CheckRequest,
) -> Result<CheckReport, Error> {
    let span = tracing::info_span!("check", domain = %domain.name, repair = request.repair);
    check_in(ports, domain, request).instrument(span).await
}

async fn check_in(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CheckRequest,
) -> Result<CheckReport, Error> {
    // Under the lock: the journal of an operation that goes on is no finding.
    let mut session = Session::open(ports, domain, "check").await?;
    let mut report = CheckReport::default();
    let pending = journal(&mut session, request, &mut report).await;

    let inventory = session.inventory().await?;
    let mut compared = Compared::new(&session, &inventory, pending);
    let listed = ports.store.list(domain.uuid, &mut |entry| compared.meet(entry)).await;
    listed.map_err(|e| from_store(e, format!("the snapshots of domain {} cannot be listed", domain.name)))?;
    let record = ports.store.domain_record(domain.uuid).await;
    let record = record.map_err(|e| {
        from_store(e, format!("what is stored of domain {} itself cannot be read", domain.name))
    })?;
    let (mut found, overlays, memories) = compared.end(record.and_then(|record| record.current));
    for memory in memories {
        found.extend(memory.look(ports, domain).await?.map(|finding| (finding, None)));
    }
    for overlay in overlays {
        match ports.disks.exists(&overlay.file).await {
            Ok(true) => {}
            Ok(false) => found.push((overlay.missing(), None)),
            Err(e) => {
                return Err(crate::error::from_port(
                    e,
                    format!("the overlay {} cannot be looked for", overlay.file),
                ));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| (&a.snapshot, &a.disk, a.code).cmp(&(&b.snapshot, &b.disk, b.code)));
    for (mut finding, fix) in found {
        if let Some(fix) = fix.filter(|_| request.repair) {
            mend(&mut session, &mut finding, fix).await;
        }
        report.findings.push(finding);
    }
    Ok(report)
}

/// Looks at the journal. The name of a snapshot whose operation is still to be finished is left out of the comparison.
async fn journal(
    session: &mut Session<'_>,
    request: &CheckRequest,
    report: &mut CheckReport,
) -> Option<String> {
    let risk = "no operation can change the domain before it is finished";
    let finding = |code, snapshot, what, repair, advice| Finding {
        code,
        disk: None,
        snapshot,
        what,
        risk: risk.to_owned(),
        repair,
        advice,
    };
    let journal = match left(session).await {
        Ok(None) => return None,
        Ok(Some(journal)) => journal,
        Err(error) => {
            let advice = error.advice().unwrap_or("recover with the version that wrote it").to_owned();
            report.findings.push(finding("journal-unreadable", None, chain(&error), Repair::ByHand, advice));
            return None;
        }
    };
    let name = journal.name().to_string();
    let what = format!("the operation ({}) was interrupted", session.about(&journal));
    let (repair, advice) = if request.repair {
        match finish(session).await {
            Ok(recovered) => {
                let done = recovered.as_ref().map(ToString::to_string).unwrap_or_default();
                report.recovered = recovered;
                (Repair::Done, done)
            }
            Err(error) => {
                let todo = error.advice().unwrap_or("remove the cause, then run recover");
                (Repair::ByHand, format!("{}; {todo}", chain(&error)))
            }
        }
    } else {
        (Repair::Possible, "recover, or check with repair".to_owned())
    };
    report.findings.push(finding("journal-left", Some(name.clone()), what, repair, advice));
    (repair != Repair::Done).then_some(name)
}

async fn mend(session: &mut Session<'_>, finding: &mut Finding, fix: Fix) {
    match repair::mend(session, fix).await {
        Ok(done) => {
            finding.repair = Repair::Done;
            finding.advice = done;
        }
        Err(error) => {
            finding.repair = Repair::ByHand;
            finding.advice = format!("the repair failed: {}", chain(&error));
        }
    }
}
