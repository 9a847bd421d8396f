//! How an operation that failed ends: everything is as it was, or recovery is pending.

use xlsnap_conf_store::Kind as StoreKind;

use super::{abilities, guest, inventory};
use crate::error::from_store;
use crate::execute::{Execution, Fault};
use crate::journal::{Direction, Journal};
use crate::look::is_ours;
use crate::session::{chain, pending};
use crate::step::{Does, Look, back};
use crate::{Can, DomainRef, Effect, Error, Kind, Ports, SnapshotAction, Stage};

/// Looks at all that a way back is planned from.
pub(super) async fn look(ports: &Ports<'_>, domain: &DomainRef, journal: &Journal) -> Result<Look, Error> {
    let foreign = match journal.draft() {
        None => false,
        Some(draft) => match ports.store.load(domain.uuid, &draft.name).await {
            Ok(record) => !is_ours(&record, draft, journal.id()),
            Err(e) if e.kind() == StoreKind::NotFound => false,
            // A record that is not whole, or of a newer version, is not one that this operation wrote.
            Err(e) if matches!(e.kind(), StoreKind::Malformed | StoreKind::Newer) => true,
            Err(e) => {
                return Err(from_store(e, format!("the record of snapshot {} cannot be read", draft.name)));
            }
        },
    };
    Ok(Look {
        guest: guest(ports, domain).await?,
        inventory: inventory(ports, domain).await?,
        restart: abilities(ports, domain).await?.restart,
        foreign,
    })
}

/// Goes back from a fault, and makes the error that says how that went. `head` says what did not happen: "snapshot s of domain d was
/// not made".
pub(super) async fn go_back(
    execution: &Execution<'_>,
    journal: &mut Journal,
    fault: Fault,
    head: &str,
) -> Error {
    let Fault { at, begun, error, .. } = fault;
    let pending = async |message, effect| {
        execution.thaw_frozen(&begun).await;
        pending(message, effect)
    };
    if begun.iter().flat_map(Stage::steps).any(|step| step.does.has_no_way_back()) {
        let message = format!("{head}, and part of it is done, which nothing leads back from");
        return pending(message, Effect::Unknown).await.with_source(error);
    }
    if let Some(overlays) = perhaps_written(journal, at, &begun) {
        // The journal goes on saying that it goes forward: recovery looks, and completes what was taken.
        match execution.are_taken(&overlays, false).await {
            Ok(false) => {}
            Ok(true) => {
                let message =
                    format!("{head} yet ({}); the guest writes to the overlays already", chain(&error));
                return pending(message, Effect::Done).await.with_source(error);
            }
            Err(unseen) => {
                let message = format!(
                    "{head} ({}), or it was: whether the guest writes to its overlays cannot be looked at now",
                    chain(&error)
                );
                return pending(message, Effect::Unknown).await.with_source(unseen);
            }
        }
    }
    let ended = match undo(execution, journal, &begun).await {
        Ok(kept) => kept,
        Err(undoing) => {
            let message = format!("{head} ({}), and what was begun cannot be undone now", chain(&error));
            let pending = pending(message, Effect::Unknown).await;
            let pending = match undoing.advice() {
                Some(advice) => pending.with_advice(format!("{advice}; then run recover")),
                None => pending,
            };
            return pending.with_source(undoing);
        }
    };
    let kind = if error.kind() == Kind::Busy { Kind::Busy } else { Kind::Failed };
    let mut message = format!("{head}: {error}");
    for sentence in ended {
        message.push_str("; ");
        message.push_str(&sentence);
    }
    error.ended_as(kind, Effect::None).reworded(message)
}

/// The disks of a stage that failed, not knowing whether it had its effect, when overlays are among them: the guest may write to
/// these. A snapshot with memory outside the images is never completed, so that it is undone in either case.
fn perhaps_written(journal: &Journal, at: usize, begun: &[Stage]) -> Option<Vec<SnapshotAction>> {
    let failed = begun.last().filter(|stage| journal.stages.get(at) == Some(*stage))?;
    let saves = begun.iter().any(|stage| stage.any(|does| matches!(does, Does::BeginMemory(_))));
    let actions: Vec<SnapshotAction> = failed
        .steps()
        .iter()
        .filter_map(|step| match &step.does {
            Does::Take(action) => Some(action.clone()),
            _ => None,
        })
        .collect();
    let external = actions.iter().any(|action| matches!(action, SnapshotAction::External(_)));
    (external && !saves).then_some(actions)
}

/// Undoes what was begun, and removes the journal; what cannot be as it was comes back as sentences.
pub(super) async fn undo(
    execution: &Execution<'_>,
    journal: &mut Journal,
    begun: &[Stage],
) -> Result<Vec<String>, Error> {
    let session = execution.session;
    let unwritten = |e| {
        Error::new(Kind::RecoveryPending, Effect::Unknown, "the journal cannot be removed").with_source(e)
    };
    if begun.is_empty() {
        session.set_journal(None).await.map_err(unwritten)?;
        return Ok(Vec::new());
    }
    journal.direction = Direction::Back;
    journal.at = begun.len().min(journal.stages.len());
    // Without this word a crash from here on makes recovery go forward, which ends as well. But for overlays: those of a domain
    // that is off would count as taken.
    if let Err(e) = session.set_journal(Some(journal)).await {
        tracing::warn!(error = %chain(&e), "the journal does not say that the operation is undone");
    }
    let mut look = look(&execution.ports, session.domain, journal).await?;
    // What could be started when it was ended can be tried at least: a look that failed is no reason to give it up.
    if begun.iter().any(|stage| stage.any(|does| matches!(does, Does::EndProcess(_)))) {
        look.restart = Can::Yes;
    }
    let way = back(begun, &journal.stages, &look)?;
    let warnings_before = {
        let mut found = execution.found();
        found.looked = Some(look.inventory);
        found.warnings.len()
    };
    execution.back(&way.stages, journal).await?;
    if execution.found().is_frozen {
        let message = "the guest's file systems could not be thawed";
        return Err(Error::new(Kind::RecoveryPending, Effect::Unknown, message)
            .with_advice("see that the guest's agent answers"));
    }
    session.set_journal(None).await.map_err(unwritten)?;
    let mut kept = way.kept;
    kept.extend(execution.found().warnings.drain(warnings_before..));
    Ok(kept)
}
