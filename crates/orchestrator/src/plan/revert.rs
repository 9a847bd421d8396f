//! Planning a revert: everything is verified before anything is lost.

mod way;

pub(crate) use way::header;

use xlsnap_conf_store::Record;
use xlsnap_types::model::PassedOver;

use super::refused;
use crate::record::{Found, find, parts};
use crate::{Abilities, DomainRef, Error, GuestState, ImageTarget, Inventory, RevertPlan, RevertRequest};

/// What planning a revert is to know.
#[derive(Debug)]
pub(crate) struct RevertFacts<'a> {
    pub(crate) domain: &'a DomainRef,
    pub(crate) guest: GuestState,
    pub(crate) inventory: &'a Inventory,
    pub(crate) record: &'a Record,
    /// What can be done with the domain's process; `None` when nothing can, or nothing has to be known of it.
    pub(crate) abilities: Option<&'a Abilities>,
}

/// Plans a revert, without the safety snapshot. A memory file that it names must still be read and [`header`] compared.
pub(crate) fn revert(facts: &RevertFacts<'_>, request: &RevertRequest) -> Result<RevertPlan, Error> {
    let name = &request.name;
    let domain = &facts.domain.name;
    let mut warnings = Vec::new();
    let way = way::choose(facts, request, &mut warnings)?;
    let parts = parts(facts.domain, name, facts.record)?;
    let mut disks = Vec::new();
    for part in &parts {
        let about = format!("snapshot {name} of domain {domain}: disk {}", part.disk);
        if let Some(overlay) = part.overlay {
            let message = format!("{about}: its part is external, below {overlay}");
            return Err(refused(message).with_advice(
                "start the domain from copies of the images that hold the state (show names them)",
            ));
        }
        let (disk, snapshot) = match find(part, facts.inventory) {
            Found::Here(disk, snapshot) => (disk, snapshot),
            Found::NoDisk => {
                return Err(refused(format!("{about} is no longer a disk of the domain"))
                    .with_advice("give the domain its disk back"));
            }
            Found::Missing(disk) => {
                return Err(refused(format!(
                    "{about}: {} does not hold the snapshot {}",
                    disk.image, part.tag
                ))
                .with_advice("see what check says"));
            }
            Found::OtherImage(disk) => {
                let message =
                    format!("{about}: its image is {} now, which does not hold the snapshot", disk.image);
                return Err(refused(message).with_advice("give the domain its earlier image back"));
            }
            Found::OtherId(disk, _) => {
                let message = format!(
                    "{about}: the snapshot {} in {} is not the recorded one: its id differs",
                    part.tag, disk.image
                );
                return Err(refused(message).with_advice("see what check says"));
            }
            Found::Ambiguous(disk) => {
                let message = format!("{about}: {} holds more than one snapshot {}", disk.image, part.tag);
                return Err(refused(message).with_advice("delete the wrong one from the image by its id"));
            }
        };
        if disk.read_only {
            return Err(
                refused(format!("{about} is read-only now")).with_advice("make the disk writable first")
            );
        }
        let recorded = part.meta.map(|meta| meta.virtual_size);
        if recorded.is_some_and(|size| size != disk.virtual_size) {
            let message = format!(
                "{about}: the disk has {} bytes now, and had {} in the snapshot",
                disk.virtual_size,
                recorded.unwrap_or_default()
            );
            return Err(refused(message).with_advice("give the disk its earlier size back first"));
        }
        let image = disk.image.clone();
        disks.push(ImageTarget { disk: part.disk.clone(), image, snapshot, virtual_size: recorded });
    }
    if disks.is_empty() {
        return Err(refused(format!(
            "snapshot {name} of domain {domain} has no disks, so there is nothing to go back to"
        )));
    }
    let untouched =
        facts.inventory.disks.iter().filter(|disk| !disks.iter().any(|target| target.disk == disk.name));
    let untouched = untouched
        .map(|disk| PassedOver { disk: disk.name.clone(), why: "it is not part of the snapshot".to_owned() })
        .collect();
    Ok(RevertPlan { name: name.clone(), safety: None, disks, untouched, way, warnings })
}
