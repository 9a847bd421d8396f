//! Comparing what is recorded with what is there.

mod compare;
mod layers;
mod memory;

use tracing::Instrument;
use uuid::Uuid;

use compare::Compared;

use crate::error::{from_port, from_store};
use crate::execute::Execution;
use crate::operation::{finish, inventory, layers_of_tops};
use crate::plan::LayerFacts;
use crate::session::{Session, chain, left_journal};
use crate::step::{Does, Stage, Step};
use crate::{
    CheckReport, CheckRequest, DomainRef, Error, Finding, FindingCode, Inventory, Ports, Recovered, Repair,
};

/// What [`check`] finds, and the repairs that it would do, with no effect: a dry run, which takes no lock.
///
/// # Errors
/// When records or disks cannot be read at all.
///
/// # Cancel safety
/// It only looks.
pub async fn plan_check(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CheckRequest,
) -> Result<(CheckReport, Vec<Stage>), Error> {
    let mut report = CheckReport::default();
    let pending = match left_journal(ports.store, domain).await {
        Ok(journal) => journal.map(|journal| {
            report.findings.push(left(&journal.about(&domain.name), journal.name().to_string()));
            journal.name().to_string()
        }),
        Err(error) => {
            report.findings.push(unreadable(&error));
            None
        }
    };
    let is_unread = is_unread(&report);
    let found = compare(ports, domain, request, pending).await?;
    let mut stages = Vec::new();
    for (finding, fix) in found {
        // A dry run of a check that accepts layers and mends nothing else tells that alone.
        let is_told = |does: &Does| request.keep_base.is_empty() || request.repair || is_acceptance(does);
        let fix = fix.filter(|does| !is_unread && is_told(does));
        stages.extend(fix.map(|does| Stage::one(domain.uuid, does)));
        report.findings.push(finding);
    }
    Ok((report, stages))
}

/// Compares records, images, overlays and the journal: opens a [`Session`] for [`Session::check`].
///
/// # Errors
/// [`crate::Kind::Busy`] when another process holds the domain's lock; else as [`Session::check`].
///
/// # Cancel safety
/// As [`Session::check`].
pub async fn check(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CheckRequest,
) -> Result<CheckReport, Error> {
    // Under the lock: the journal of an operation that goes on is no finding.
    Session::open(ports.store, ports.clock, domain, "check").await?.check(ports, request).await
}

impl Session<'_> {
    /// Compares records, images, overlays and the journal, and with [`CheckRequest::repair`] mends what it can without losing
    /// anything: it finishes what a crash left, corrects records, removes the marks of reverts that have ended, and with
    /// [`CheckRequest::deep`] has damaged images mended that no process has open. What no record names in an image may belong to
    /// another program, and stays.
    ///
    /// The codes of the findings are listed in docs/errors.md.
    ///
    /// # Errors
    /// When records or disks cannot be read at all.
    ///
    /// # Cancel safety
    /// Each repair is one step, done or not.
    pub async fn check(&self, ports: &Ports<'_>, request: &CheckRequest) -> Result<CheckReport, Error> {
        let span = tracing::info_span!("check", domain = %self.domain.name, repair = request.repair);
        check_in(self, ports, request).instrument(span).await
    }
}

async fn check_in(
    session: &Session<'_>,
    ports: &Ports<'_>,
    request: &CheckRequest,
) -> Result<CheckReport, Error> {
    let mut report = CheckReport::default();
    let pending = journal(session, ports, request, &mut report).await;
    let is_unread = is_unread(&report);
    let found = compare(ports, session.domain, request, pending).await?;
    let execution = Execution::new(session, ports, Uuid::nil());
    for (mut finding, fix) in found {
        let is_asked = |does: &Does| !is_unread && (request.repair || is_acceptance(does));
        if let Some(does) = fix.filter(is_asked) {
            let step = Step { domain: session.domain.uuid, does };
            let done = step.text().map(|text| text.what).unwrap_or_default();
            match execution.mend(step).await {
                Ok(()) => {
                    finding.repair = Repair::Done;
                    finding.advice = format!("done: {done}");
                }
                Err(error) => {
                    finding.repair = Repair::ByHand;
                    finding.advice = format!("the repair failed: {}", chain(&error));
                }
            }
        }
        report.findings.push(finding);
    }
    Ok(report)
}

/// Whether a repair takes a layer for what it is now, which is asked for by the disk's name.
fn is_acceptance(does: &Does) -> bool {
    matches!(does, Does::NoteLayers { .. })
}

/// Compares everything; each finding with the step of the repair that loses nothing, where there is one.
async fn compare(
    ports: &Ports<'_>,
    domain: &DomainRef,
    request: &CheckRequest,
    pending: Option<String>,
) -> Result<Vec<(Finding, Option<Does>)>, Error> {
    let inventory = inventory(ports, domain).await?;
    let layers = match pending {
        None => layers_of_tops(ports, domain, &inventory).await?,
        Some(_) => LayerFacts::default(),
    };
    let mut compared = Compared::new(domain, &inventory, &layers.tree, pending.clone());
    let listed = ports.store.list(domain.uuid, &mut |entry| compared.meet(entry)).await;
    listed.map_err(|e| from_store(e, format!("the snapshots of domain {} cannot be listed", domain.name)))?;
    let record = ports.store.domain_record(domain.uuid).await;
    let record = record.map_err(|e| {
        from_store(e, format!("what is stored of domain {} itself cannot be read", domain.name))
    })?;
    let current = record.and_then(|record| record.current);
    let (mut found, overlays, memories, named) = compared.end(current);
    for memory in memories {
        found.extend(memory.look(ports, domain, request.deep).await?.map(|finding| (finding, None)));
    }
    if pending.is_none() {
        found.extend(
            memory::orphans(ports, domain, &inventory, &layers.tree, &named)
                .await?
                .into_iter()
                .map(|finding| (finding, None)),
        );
    }
    for overlay in overlays {
        let Some(port) = ports.overlays.get() else { continue };
        match port.exists(overlay.file()).await {
            Ok(true) => {}
            Ok(false) => found.push((overlay.missing(domain), None)),
            Err(e) => {
                return Err(from_port(e, format!("the overlay {} cannot be looked for", overlay.file())));
            }
        }
    }
    found.extend(layers::compare(domain, &inventory, &layers, request));
    if request.deep {
        found.extend(images(ports, domain, &inventory).await?);
    }
    found.sort_by(|(a, _), (b, _)| (&a.snapshot, &a.disk, a.code).cmp(&(&b.snapshot, &b.disk, b.code)));
    Ok(found)
}

/// Has every image checked by its own tool.
async fn images(
    ports: &Ports<'_>,
    domain: &DomainRef,
    inventory: &Inventory,
) -> Result<Vec<(Finding, Option<Does>)>, Error> {
    let Some(health) = ports.health.get() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for disk in inventory.disks.iter().filter(|disk| !disk.removable && !disk.read_only) {
        let examined = health.examine(&disk.name).await;
        let examined = examined.map_err(|e| {
            from_port(
                e,
                format!(
                    "the image {} of disk {} of domain {} cannot be checked",
                    disk.image, disk.name, domain.name
                ),
            )
        })?;
        let Some(health) = examined else { continue };
        let (code, what, risk) = if health.corruptions > 0 {
            let what = format!(
                "{} has faults ({}), and clusters that belong to nothing ({})",
                disk.image, health.corruptions, health.leaks
            );
            (FindingCode::ImageDamaged, what, "the disk may read wrong data, or be refused")
        } else if health.leaks > 0 {
            let what = format!("{} has clusters that belong to nothing ({})", disk.image, health.leaks);
            (FindingCode::ImageLeaks, what, "they take space; no data is lost")
        } else {
            continue;
        };
        let finding = Finding {
            code,
            disk: Some(disk.name.clone()),
            snapshot: None,
            what,
            risk: risk.to_owned(),
            repair: Repair::Possible,
            advice: "check --deep --repair mends it, while no process has the image open".to_owned(),
        };
        let fix = Does::MendImage { disk: disk.name.clone(), image: disk.image.clone() };
        found.push((finding, Some(fix)));
    }
    Ok(found)
}

fn finding(
    code: FindingCode,
    snapshot: Option<String>,
    what: String,
    repair: Repair,
    advice: String,
) -> Finding {
    Finding {
        code,
        disk: None,
        snapshot,
        what,
        risk: "no operation can change the domain before it is finished".to_owned(),
        repair,
        advice,
    }
}

fn left(about: &str, name: String) -> Finding {
    let what = format!("the operation ({about}) was interrupted");
    let advice = "recover, or check with repair".to_owned();
    finding(FindingCode::JournalLeft, Some(name), what, Repair::Possible, advice)
}

fn unreadable(error: &Error) -> Finding {
    let advice = error.advice().unwrap_or("recover with the version of xlsnap that wrote it").to_owned();
    finding(FindingCode::JournalUnreadable, None, chain(error), Repair::ByHand, advice)
}

/// Whether the journal cannot be read: what an operation left that is in progress, a repair could take for leftovers.
fn is_unread(report: &CheckReport) -> bool {
    report.findings.iter().any(|found| found.code == FindingCode::JournalUnreadable)
}

/// Looks at the journal. The name of a snapshot whose operation is still to be finished is left out of the comparison.
async fn journal(
    session: &Session<'_>,
    ports: &Ports<'_>,
    request: &CheckRequest,
    report: &mut CheckReport,
) -> Option<String> {
    let journal = match session.left_journal().await {
        Ok(None) => return None,
        Ok(Some(journal)) => journal,
        Err(error) => {
            report.findings.push(unreadable(&error));
            return None;
        }
    };
    let name = journal.name().to_string();
    let mut found = left(&journal.about(&session.domain.name), name.clone());
    if request.repair {
        match finish(session, ports).await {
            Ok(recovered) => {
                found.repair = Repair::Done;
                found.advice = recovered.as_ref().map(Recovered::to_string).unwrap_or_default();
                report.recovered = recovered;
            }
            Err(error) => {
                let todo = error.advice().unwrap_or("remove the cause, then run recover");
                found.repair = Repair::ByHand;
                found.advice = format!("{}; {todo}", chain(&error));
            }
        }
    }
    let done = found.repair == Repair::Done;
    report.findings.push(found);
    (!done).then_some(name)
}
