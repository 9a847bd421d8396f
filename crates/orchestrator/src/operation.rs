//! The operations. Each is a value that is planned by looking, and then carried out under the domain's lock.

mod back;
mod create;
mod delete;
mod disks;
mod flatten;
mod layers;
mod orphan;
mod recover;
mod relocate;
mod revert;

pub(crate) use create::naming_with;
pub use create::{create, plan_create};
pub use delete::{delete, plan_delete};
pub use disks::{DiskTake, DiskTarget, TakeHow};
pub use flatten::{flatten, plan_flatten};
pub(crate) use layers::{layers_of_record, layers_of_tops};
pub use orphan::{plan_adopt, plan_delete_orphan};
pub use recover::{plan_recover, recover, recover_without_memory};
pub use relocate::plan_relocate;
pub use revert::{plan_revert, revert};

pub(crate) use crate::plan::{creation_stages, deletion_stages, reverting_stages};
pub(crate) use recover::finish;

use crate::error::from_port;
use crate::orphan::word;
use crate::session::left_journal;
use crate::{
    Abilities, Can, DomainRef, Effect, Error, GuestState, Inventory, Kind, Port, PortErrorKind, Ports,
};

/// All disks as they are now.
pub(crate) async fn inventory(ports: &Ports<'_>, domain: &DomainRef) -> Result<Inventory, Error> {
    let looked = ports.disks.inventory().await;
    looked.map_err(|e| {
        let is_gone = e.kind == PortErrorKind::NotFound;
        let error = from_port(e, format!("the disks of domain {} cannot be looked at", domain.name));
        match error.advice() {
            None if is_gone => error.with_advice(format!(
                "if an image was moved or renamed: xlsnap check {} --relocate OLD=NEW",
                word(&domain.name)
            )),
            _ => error,
        }
    })
}

/// The guest's state now.
pub(crate) async fn guest(ports: &Ports<'_>, domain: &DomainRef) -> Result<GuestState, Error> {
    let asked = ports.guest.state().await;
    asked.map_err(|e| from_port(e, format!("the state of domain {} cannot be told", domain.name)))
}

/// What can be done with the domain's process: what the backend says, less what its ports lack.
pub(crate) async fn abilities(ports: &Ports<'_>, domain: &DomainRef) -> Result<Abilities, Error> {
    let mut abilities = match ports.power {
        Port::Has(power) => {
            let asked = power.abilities().await;
            asked.map_err(|e| {
                from_port(
                    e,
                    format!("what can be done with the process of domain {} cannot be told", domain.name),
                )
            })?
        }
        Port::Lacks(why) => Abilities {
            restart: Can::no(why),
            restore: Can::no(why),
            release: Can::no(why),
            load: Can::no(why),
            reset: ports.pause.can(),
            ..Abilities::default()
        },
    };
    let less = |can: &mut Can, port: Can| {
        if can.is_yes() {
            *can = port;
        }
    };
    less(&mut abilities.release, ports.release.can());
    less(&mut abilities.release, ports.pause.can());
    less(&mut abilities.load, ports.inside.can());
    less(&mut abilities.restore, ports.memory_files.can());
    Ok(abilities)
}

/// Refuses a dry run while an operation is to be recovered: its plan would be of a state that does not last.
pub(crate) async fn refuse_pending(ports: &Ports<'_>, domain: &DomainRef) -> Result<(), Error> {
    let pending = match left_journal(ports.store, domain).await {
        Ok(None) => return Ok(()),
        Ok(Some(journal)) => format!(" ({})", journal.about(&domain.name)),
        Err(error) if error.kind() == Kind::RecoveryPending => String::new(),
        Err(error) => return Err(error),
    };
    let message = format!(
        "an operation on domain {} goes on or was interrupted{pending}; no plan is certain before its end",
        domain.name
    );
    Err(Error::new(Kind::RecoveryPending, Effect::None, message).with_advice("wait for it, or run recover"))
}
