//! Whether a new file takes the name of the disk's image: what others start the domain by is the image's name, and they go on starting
//! what the disk writes to.

use std::collections::{BTreeMap, BTreeSet};

use xlsnap_types::model::{DiskName, ImageFormat};

use super::{LayerFacts, refused};
use crate::layers::{ExternalPart, Guard, InternalPart};
use crate::step::{Does, LayerNote, Stage};
use crate::{Can, Disk, Error, GuestState, KeepName, LayerFile, NameSwap, Overlay};

/// What planning it is to know.
#[derive(Debug, Clone)]
pub(crate) struct NameFacts {
    /// Whether the backend renames image files.
    pub(crate) port: Can,
    /// Whether the domain is started by what carries the plan out, from its description.
    pub(crate) restart: Can,
    pub(crate) guest: GuestState,
    /// Whether the guest can be stopped and let run.
    pub(crate) pause: Can,
    /// Of the disks' images, whether each can get another name.
    pub(crate) movable: BTreeMap<DiskName, Can>,
}

impl NameFacts {
    /// Of a snapshot without external parts nothing matters.
    pub(crate) fn unasked(guest: GuestState) -> Self {
        let no = Can::no("no file gets another name");
        Self { port: no.clone(), restart: Can::Yes, guest, pause: no, movable: BTreeMap::new() }
    }
}

/// How the name of a disk's image is dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// The new file takes it.
    Kept(NameSwap),
    /// It stays where it is; for a reason where the new file was to take it, as a clause.
    Left(Option<String>),
}

/// Decides it for a new overlay on what a disk writes to.
pub(crate) fn of_overlay(
    facts: &NameFacts,
    layers: &LayerFacts,
    (domain, disk, overlay): (&str, &Disk, &Overlay),
    wanted: KeepName,
) -> Result<Keeping, Error> {
    let others_start = !facts.restart.is_yes() || !disk.adopt.is_yes();
    if wanted == KeepName::No || (wanted == KeepName::WhereOthersStart && !others_start) {
        return Ok(Keeping::Left(None));
    }
    let why = why_not(facts, layers, disk, (&overlay.file, &overlay.format));
    match (why, wanted) {
        (None, _) => Ok(Keeping::Kept(NameSwap {
            old: image_of(disk),
            new: LayerFile {
                disk: disk.name.clone(),
                file: overlay.file.clone(),
                format: overlay.format.clone(),
                identity: None,
            },
            stands_on_old: true,
            token: overlay.token.clone(),
        })),
        (Some(why), KeepName::Yes) if disk.adopt.is_yes() => {
            let message = format!(
                "disk {} of domain {domain}: the name {} cannot be kept for the new file: {why}",
                disk.name, disk.image
            );
            Err(refused(message).with_advice(format!(
                "leave the name where it is (--no-keep-name), and name {} in what starts domain {domain}",
                overlay.file
            )))
        }
        (Some(why), _) => Ok(Keeping::Left((facts.port.is_yes() || !disk.adopt.is_yes()).then_some(why))),
    }
}

/// What a disk writes to.
pub(super) fn image_of(disk: &Disk) -> LayerFile {
    LayerFile {
        disk: disk.name.clone(),
        file: disk.image.clone(),
        format: disk.format.clone(),
        identity: disk.identity,
    }
}

/// Why a new file cannot take the name of the image that a disk writes to, as a clause.
pub(crate) fn why_not(
    facts: &NameFacts,
    layers: &LayerFacts,
    disk: &Disk,
    (file, format): (&str, &ImageFormat),
) -> Option<String> {
    let image = disk.image.as_str();
    let directory = |file: &str| file.rfind('/').map(|slash| file[..slash].to_owned());
    if let Some(why) = facts.port.why() {
        return Some(why.to_owned());
    }
    if disk.format != *format {
        return Some(format!(
            "its format is {}, and that of the new file is {format}: what starts {image} would take one for the other",
            disk.format
        ));
    }
    if directory(image) != directory(file) {
        return Some(format!("{file} is in another directory"));
    }
    if let Some(why) = facts.movable.get(&disk.name).and_then(Can::why) {
        return Some(why.to_owned());
    }
    let Some(node) = layers.tree.get(image).filter(|_| disk.identity.is_some()) else {
        return Some(format!("{image} cannot be looked at"));
    };
    if node.guard != Guard::Same {
        return Some(format!("{image} is not what the ledger says, see what check says"));
    }
    // What stands on the file that a disk writes to is read wrongly whether it has another name or not.
    if let Some(why) = layers.closed_by_its_own(&BTreeSet::new()).remove(image) {
        return Some(why);
    }
    if let Some(above) = layers.tree.children(image).next() {
        return Some(format!("{} stands on {image}", above.layer.file));
    }
    if let Some(part) = layers.parts.iter().find(|part| part.files.image == image) {
        return Some(format!("{image} holds the state of snapshot {}", part.snapshot));
    }
    let why = match facts.guest {
        GuestState::Off => return None,
        GuestState::Serving => Some("a storage daemon has it, and no guest's device".to_owned()),
        GuestState::On(_) => None,
    };
    let bitmap = disk.bitmaps.iter().find(|bitmap| !bitmap.persistent);
    let bitmap = bitmap.map(|bitmap| format!("the dirty bitmap {} would be lost with it", bitmap.name));
    let why = why.or_else(|| disk.swap.why().or(facts.pause.why()).map(str::to_owned)).or(bitmap);
    why.map(|why| format!("the domain is on, and its process cannot be given another image: {why}"))
}

impl LayerFacts {
    /// The steps on records that follow an exchange of names, and these facts after it.
    pub(crate) fn follow_names(&mut self, domain: uuid::Uuid, names: &NameSwap) -> Vec<Stage> {
        let (kept, other) = (names.kept().to_owned(), &names.new.file);
        let mut stages = Vec::new();
        for ExternalPart { snapshot, disk, files } in &mut self.parts {
            let from = files.clone();
            for file in [&mut files.image, &mut files.overlay].into_iter().filter(|file| **file == kept) {
                file.clone_from(other);
            }
            if *files != from {
                let (snapshot, disk, to) = (snapshot.clone(), disk.clone(), files.clone());
                stages.push(Stage::one(domain, Does::SetPart { snapshot, disk, from, to }));
            }
        }
        for InternalPart { snapshot, disk, image } in self.inside.iter_mut().filter(|part| part.image == kept)
        {
            let (snapshot, disk) = (snapshot.clone(), disk.clone());
            let does = Does::SetImage { snapshot, disk, from: kept.clone(), to: other.clone() };
            stages.push(Stage::one(domain, does));
            image.clone_from(other);
        }
        self.tree.swap_names(names);
        stages
    }

    /// What the ledger is to say of a file under its new name.
    pub(crate) fn moved(&self, names: &NameSwap, frozen: bool) -> Option<LayerNote> {
        self.tree.get(&names.new.file).map(|node| super::note(node, frozen))
    }
}
