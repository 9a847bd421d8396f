//! Carrying out a revert, and going on with one that was cut short.

use futures_util::future::join_all;
use xlsnap_types::model::SnapshotName;

use super::settle;
use crate::error::from_port;
use crate::session::{Session, chain, places};
use crate::{Effect, Error, GuestState, ImageTarget, Kind, PortError, Power, RevertWay};

/// How a revert failed.
pub(super) enum Broken {
    /// Everything is as it was.
    Untouched(Error),
    /// Something has changed.
    Touched {
        /// What the domain is now.
        state: String,
        cause: Error,
        advice: &'static str,
    },
}

const HALF: &str = "don't start the domain; remove the cause, then run recover";
const ON: &str = "remove the cause, then run recover: it goes on from there";
const ON_OR_WITHOUT: &str = "remove the cause, then run recover: it goes on from there; or recover without the memory, and the domain is off with its \
     disks alone";

/// Makes the domain what it was.
pub(super) async fn out(
    session: &mut Session<'_>,
    name: &SnapshotName,
    disks: &[ImageTarget],
    way: &RevertWay,
    guest: GuestState,
) -> Result<(), Broken> {
    let steps = match way {
        RevertWay::Off | RevertWay::Load { .. } => 1,
        RevertWay::Release { .. } | RevertWay::Restart { .. } | RevertWay::Restore { .. } => 3,
    };
    session.steps.expect(steps);
    if let RevertWay::Load { inside, run } = way {
        let power = power(session)?;
        let loading = power.load(inside, *run, session.ports.progress);
        return match session.steps.run(&format!("load disks and memory of {name}"), loading).await {
            Ok(()) => Ok(()),
            Err(e) => {
                Err(broken(session, name, e, "its disks and its memory may be of different times", HALF))
            }
        };
    }
    clear(session, name, way, guest).await?;
    if let Err((cause, touched)) = apply(session, name, disks).await {
        return Err(not_applied(session, name, way, guest, cause, touched).await);
    }
    bring_up(session, name, way).await.map_err(|e| {
        let state = match way {
            RevertWay::Release { .. } => "its disks are those of the snapshot, and its process does not take them back",
            RevertWay::Restore { .. } => {
                "it is off, its disks are those of the snapshot, and it does not start with the snapshot's memory"
            }
            _ => "it is off, its disks are those of the snapshot, and it does not start",
        };
        let advice = if matches!(way, RevertWay::Restore { .. }) { ON_OR_WITHOUT } else { ON };
        touched(session, name, state, from_port(e, "it cannot be brought up"), advice)
    })
}

fn power<'a>(session: &Session<'a>) -> Result<&'a dyn Power, Broken> {
    session.ports.power.ok_or_else(|| {
        let message = format!("nothing can be done with the process of domain {}", session.domain.name);
        Broken::Untouched(Error::new(Kind::Refused, Effect::None, message))
    })
}

fn touched(
    session: &Session<'_>,
    name: &SnapshotName,
    state: &str,
    cause: Error,
    advice: &'static str,
) -> Broken {
    let state =
        format!("domain {}: the revert to snapshot {name} was not finished: {state}", session.domain.name);
    Broken::Touched { state, cause, advice }
}

fn broken(
    session: &Session<'_>,
    name: &SnapshotName,
    error: PortError,
    state: &str,
    advice: &'static str,
) -> Broken {
    let effect = error.effect;
    let cause = from_port(error, format!("domain {} cannot go back to snapshot {name}", session.domain.name));
    if effect == Effect::None {
        Broken::Untouched(cause)
    } else {
        touched(session, name, state, cause, advice)
    }
}

/// Sees to it that nobody writes to the disks.
async fn clear(
    session: &mut Session<'_>,
    name: &SnapshotName,
    way: &RevertWay,
    guest: GuestState,
) -> Result<(), Broken> {
    match way {
        RevertWay::Off | RevertWay::Load { .. } => Ok(()),
        RevertWay::Release { .. } => {
            let power = power(session)?;
            let released = session.steps.run("stop the guest and let go of its disks", power.release()).await;
            let Err(e) = released else { return Ok(()) };
            if e.effect != Effect::None && power.take_back(false, runs(guest)).await.is_ok() {
                let message =
                    format!("the process of domain {} does not let go of its disks", session.domain.name);
                return Err(Broken::Untouched(from_port(e, message)));
            }
            Err(broken(session, name, e, "its process may have let go of some disks", ON))
        }
        RevertWay::Restart { .. } | RevertWay::Restore { .. } => {
            let power = power(session)?;
            let ended = session.steps.run("end the domain's process", power.destroy()).await;
            ended.map_err(|e| {
                broken(session, name, e, "its process may have ended; its disks are as they were", ON)
            })
        }
    }
}

fn runs(guest: GuestState) -> bool {
    matches!(guest, GuestState::On(flags) if !(flags.paused || flags.shutdown || flags.dying))
}

/// The disks did not go back: the domain goes on where that can be.
async fn not_applied(
    session: &mut Session<'_>,
    name: &SnapshotName,
    way: &RevertWay,
    guest: GuestState,
    cause: Error,
    changed: bool,
) -> Broken {
    if changed {
        return touched(session, name, "it went back in part", cause, HALF);
    }
    match way {
        RevertWay::Off | RevertWay::Load { .. } => Broken::Untouched(cause),
        RevertWay::Release { .. } => {
            let Some(power) = session.ports.power else { return Broken::Untouched(cause) };
            match power.take_back(false, runs(guest)).await {
                Ok(()) => Broken::Untouched(cause),
                Err(e) => {
                    let state = format!(
                        "its disks are as they were, and its process does not take them back ({})",
                        chain(&e)
                    );
                    touched(session, name, &state, cause, ON)
                }
            }
        }
        RevertWay::Restart { .. } | RevertWay::Restore { .. } if guest == GuestState::Off => {
            Broken::Untouched(cause)
        }
        RevertWay::Restart { .. } | RevertWay::Restore { .. } => {
            touched(session, name, "it was ended, and its disks are as they were", cause, ON)
        }
    }
}

/// What follows when the disks are those of the snapshot.
async fn bring_up(session: &mut Session<'_>, name: &SnapshotName, way: &RevertWay) -> Result<(), PortError> {
    let Some(power) = session.ports.power else { return Ok(()) };
    let progress = session.ports.progress;
    match way {
        RevertWay::Off | RevertWay::Load { .. } => Ok(()),
        RevertWay::Release { run } => {
            let taking = power.take_back(true, *run);
            session.steps.run("give the process its disks back, and reset the guest", taking).await
        }
        RevertWay::Restart { run } => session.steps.run("start the domain", power.start(*run)).await,
        RevertWay::Restore { memory, run } => {
            let restoring = power.restore(memory, *run, progress);
            session.steps.run(&format!("start the domain with the memory of {name}"), restoring).await
        }
    }
}

/// Makes the disks what they were, all at once. The error says whether some were, or may be.
async fn apply(
    session: &mut Session<'_>,
    name: &SnapshotName,
    disks: &[ImageTarget],
) -> Result<(), (Error, bool)> {
    let port = session.ports.disks;
    let reverting = join_all(disks.iter().map(|target| port.revert(&target.disk, &target.snapshot)));
    let done = session.steps.run(&format!("revert all disks to {name}"), reverting).await;
    let mut failed = Vec::new();
    let mut touched = false;
    for (target, result) in disks.iter().zip(done) {
        match result {
            Ok(()) => touched = true,
            Err(e) => {
                touched |= e.effect != Effect::None;
                failed.push((target, e));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let places = places(&failed, |target| format!("disk {} ({})", target.disk, target.image));
    let message = format!("domain {}: snapshot {name} cannot be applied to {}", session.domain.name, places);
    let (_, first) = failed.swap_remove(0);
    Err((from_port(first, message), touched))
}

/// Goes on with a revert that was interrupted: on every disk again, which gives the same.
pub(crate) async fn revert_journaled(
    session: &mut Session<'_>,
    name: &SnapshotName,
    disks: &[ImageTarget],
    way: &RevertWay,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let guest = session.guest().await?;
    let has_memory = matches!(way, RevertWay::Restore { .. } | RevertWay::Load { .. });
    let way = if session.without_memory && has_memory {
        warnings.push(format!("the memory of snapshot {name} was not restored: the domain is off"));
        &RevertWay::Off
    } else {
        way
    };
    let way = match way {
        RevertWay::Off if guest != GuestState::Off => {
            let message = format!(
                "domain {} was started after a revert to {name} that was cut short: its disks may be of different times",
                session.domain.name
            );
            return Err(Error::new(Kind::Busy, Effect::None, message)
                .with_advice("shut the domain down, then run recover: its disks go back to the snapshot"));
        }
        // The process that was to take its disks back is gone.
        RevertWay::Release { run } if guest == GuestState::Off => restart(session, *run, warnings).await?,
        way => way.clone(),
    };
    if !matches!(way, RevertWay::Load { .. }) {
        // Nobody may change the disks between this look and the revert.
        if let Err(broken) = clear(session, name, &way, guest).await {
            return Err(of_broken(broken));
        }
        all_there(session, disks).await?;
    }
    out(session, name, disks, &way, guest).await.map_err(of_broken)?;
    settle(session, name, disks).await
}

/// Whether the domain can be started again after its process died; else it stays off.
async fn restart(session: &Session<'_>, run: bool, warnings: &mut Vec<String>) -> Result<RevertWay, Error> {
    let domain = &session.domain.name;
    let no_restart = match session.ports.power {
        Some(power) => {
            let asked = power.abilities().await;
            asked
                .map_err(|e| from_port(e, format!("what can be done with domain {domain} cannot be told")))?
                .no_restart
        }
        None => Some("nothing is known of how it is started".to_owned()),
    };
    Ok(match no_restart {
        None => RevertWay::Restart { run },
        Some(why) => {
            warnings.push(format!(
                "domain {domain} is off: its process has ended, and it cannot be started ({why})"
            ));
            RevertWay::Off
        }
    })
}

fn of_broken(broken: Broken) -> Error {
    match broken {
        Broken::Untouched(cause) => cause,
        Broken::Touched { state, cause, advice } => {
            Error::new(Kind::RecoveryPending, Effect::Unknown, state).with_source(cause).with_advice(advice)
        }
    }
}

async fn all_there(session: &Session<'_>, disks: &[ImageTarget]) -> Result<(), Error> {
    let inventory = session.inventory().await?;
    for target in disks {
        let found = inventory.disk(&target.disk);
        let there = found.filter(|disk| disk.named(&target.snapshot.name).any(|s| s == target.snapshot));
        if there.is_none() {
            let message = format!(
                "{} (disk {} of domain {}) does not hold the snapshot {} (id {}) any more",
                target.image, target.disk, session.domain.name, target.snapshot.name, target.snapshot.id
            );
            return Err(Error::new(Kind::Refused, Effect::None, message));
        }
    }
    Ok(())
}
