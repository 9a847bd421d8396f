//! Planning a revert: everything is verified before anything is lost.

mod external;
mod way;

pub(crate) use way::header;

use uuid::Uuid;
use xlsnap_conf_store::Record;
use xlsnap_types::model::{MemoryMeta, PassedOver, SnapshotName};

use super::create::token;
use super::{LayerFacts, NameFacts, NewTop, refused, reverting_stages};
use crate::record::{Found, Part, cannot_go_back, find, parts};
use crate::step::{Does, ImageTarget, UndoPoint};
use crate::{
    Abilities, Can, Disk, DomainRef, Error, GuestState, Inventory, NameSwap, RevertPlan, RevertRequest,
    RevertWay, Run, Stage, UndescribedKind,
};

/// What planning a revert is to know.
#[derive(Debug)]
pub(crate) struct RevertFacts<'a> {
    pub(crate) domain: &'a DomainRef,
    pub(crate) guest: GuestState,
    pub(crate) inventory: &'a Inventory,
    pub(crate) record: &'a Record,
    /// What can be done with the domain's process.
    pub(crate) abilities: &'a Abilities,
    /// Whether the guest can be stopped and let run.
    pub(crate) pause: Can,
    /// Where the domain is now.
    pub(crate) current: Option<&'a SnapshotName>,
    /// The memory of the safety snapshot, from which the guest goes on when the revert fails.
    pub(crate) safety: Option<&'a MemoryMeta>,
    /// What is known of the layers; of a snapshot without external parts nothing.
    pub(crate) layers: LayerFacts,
    pub(crate) naming: &'a NameFacts,
    /// Whether what is on the disks is marked first.
    pub(crate) marks: Marks,
    /// The operation's own id.
    pub(crate) id: Uuid,
}

/// Whether a revert marks what is on the disks before it changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Marks {
    /// It does, and can go back.
    #[default]
    Made,
    /// There is no room for marks: it only goes forward.
    NoRoom,
}

/// A revert as it is to be carried out.
#[derive(Debug)]
pub(crate) struct Reverting {
    pub(crate) name: SnapshotName,
    pub(crate) disks: Vec<ImageTarget>,
    pub(crate) tops: Vec<NewTop>,
    /// The new images that take the names of those before.
    pub(crate) names: Vec<NameSwap>,
    pub(crate) way: RevertWay,
    /// What the guest does before; `None` when the domain is off.
    pub(crate) was: Option<Run>,
    /// Whether the guest is stopped first.
    pub(crate) stops: bool,
    /// What leads back; empty for one that only goes forward.
    pub(crate) points: Vec<UndoPoint>,
    /// The bitmaps that are dropped.
    pub(crate) bitmaps: Vec<Does>,
    pub(crate) safety: Option<MemoryMeta>,
    pub(crate) from: Option<SnapshotName>,
    /// The snapshots that were copied with the images that hold them, and go after the commit.
    pub(crate) copied: Vec<ImageTarget>,
    /// What becomes, after the commit, of layers that no disk and no snapshot needs any more.
    pub(crate) tidying: Vec<Stage>,
}

impl Reverting {
    /// One that only goes forward, since nothing marks what was there before.
    pub(crate) fn without_undo(name: SnapshotName, disks: Vec<ImageTarget>, way: RevertWay) -> Self {
        Self {
            was: match way {
                RevertWay::Release { run } => Some(run),
                // Ending the process of a domain that is off is no error.
                RevertWay::Restart { .. } | RevertWay::Restore { .. } => Some(Run::Runs),
                RevertWay::Load { .. } => Some(Run::Runs),
                RevertWay::Off => None,
            },
            stops: matches!(way, RevertWay::Release { .. }),
            from: Some(name.clone()),
            name,
            disks,
            tops: Vec::new(),
            names: Vec::new(),
            copied: Vec::new(),
            tidying: Vec::new(),
            way,
            points: Vec::new(),
            bitmaps: Vec::new(),
            safety: None,
        }
    }
}

/// Plans a revert, without the safety snapshot. A memory file that it names must still be read and [`header`] compared.
pub(crate) fn revert(facts: &RevertFacts<'_>, request: &RevertRequest) -> Result<RevertPlan, Error> {
    let name = &request.name;
    let domain = &facts.domain.name;
    let mut warnings = Vec::new();
    let tops = external::tops(facts, request)?;
    let way = way::choose(facts, request, &tops, &mut warnings)?;
    refuse_undescribed(facts, name, &mut warnings)?;
    let mut disks = Vec::new();
    let mut points = Vec::new();
    let mut bitmaps = Vec::new();
    for part in parts(facts.domain, name, facts.record)? {
        let about = format!("snapshot {name} of domain {domain}: disk {}", part.disk);
        if tops.iter().any(|top| *top.disk() == part.disk) {
            continue;
        }
        let (disk, snapshot) = match find(&part, facts.inventory) {
            Found::Here(disk, snapshot) => (disk, snapshot),
            found => return Err(not_found(&about, &part, &found)),
        };
        // A process that ends takes along what it alone has; one that loads what is inside its images writes them itself.
        let ends = way::ends(&way, &tops);
        let mut disk = disk.clone();
        disk.bitmaps.retain(|bitmap| bitmap.persistent || !ends);
        if matches!(way, RevertWay::Load { .. }) {
            disk.revert = Can::Yes;
        }
        let disk = &disk;
        if let Some((why, advice)) = cannot_go_back(disk, request.drop_bitmaps) {
            return Err(
                refused(format!("{about} ({}) cannot go back: {why}", disk.image)).with_advice(advice)
            );
        }
        let recorded = part.meta.map(|meta| meta.virtual_size);
        if let Some(size) = recorded.filter(|size| *size != disk.virtual_size) {
            let message = format!(
                "{about}: the disk has {} bytes now, and had {size} in the snapshot",
                disk.virtual_size
            );
            return Err(refused(message).with_advice("give the disk its earlier size back first"));
        }
        bitmaps.extend(disk.bitmaps.iter().map(|bitmap| Does::DropBitmap {
            disk: part.disk.clone(),
            image: disk.image.clone(),
            bitmap: bitmap.clone(),
        }));
        points.push(UndoPoint {
            disk: part.disk.clone(),
            image: disk.image.clone(),
            tag: format!("{}{}", UndoPoint::PREFIX, token(facts.id, points.len())),
            virtual_size: disk.virtual_size,
        });
        disks.push(ImageTarget::on(disk, snapshot, recorded));
    }
    if disks.is_empty() && tops.is_empty() {
        return Err(refused(format!(
            "snapshot {name} of domain {domain} has no disks, so there is nothing to go back to"
        )));
    }
    let untouched: Vec<&Disk> = facts
        .inventory
        .disks
        .iter()
        .filter(|disk| !disks.iter().any(|target| target.disk == disk.name))
        .filter(|disk| !tops.iter().any(|top| *top.disk() == disk.name))
        .collect();
    let untouched = untouched
        .into_iter()
        .map(|disk| PassedOver { disk: disk.name.clone(), why: "it is not part of the snapshot".to_owned() })
        .collect();
    warn_of_bitmaps(&bitmaps, &mut warnings);
    let names = external::names(facts, name, &tops, &way)?;
    let tidying = external::tidying(facts, &tops, &names);
    warnings.extend(external::moves(facts, request, (&tops, &names, &tidying)));
    if facts.marks == Marks::NoRoom && !points.is_empty() {
        points.clear();
        warnings.push(format!(
            "there was no room to mark what was on the disks of domain {domain} before: had a step failed, the revert could not \
             have gone back"
        ));
    }
    let reverting = Reverting {
        name: name.clone(),
        copied: external::copied(facts, &tops, &names),
        tidying,
        disks,
        tops,
        names,
        way,
        was: facts.guest.run(),
        stops: facts.pause.is_yes(),
        points,
        bitmaps,
        safety: facts.safety.cloned(),
        from: facts.current.cloned(),
    };
    let stages = reverting_stages(facts.domain.uuid, &reverting);
    let Reverting { disks, tops, way, .. } = reverting;
    Ok(RevertPlan { name: name.clone(), safety: None, disks, tops, untouched, way, warnings, stages })
}

fn warn_of_bitmaps(bitmaps: &[Does], warnings: &mut Vec<String>) {
    for does in bitmaps {
        if let Does::DropBitmap { disk, bitmap, .. } = does {
            warnings.push(format!(
                "the dirty bitmap {} of disk {disk} is removed: the next backup that goes by it has to be a full one",
                bitmap.name
            ));
        }
    }
}

/// What the guest writes to and neither the description nor the record names. What was left out of the snapshot by name stays
/// as it is.
fn refuse_undescribed(
    facts: &RevertFacts<'_>,
    name: &SnapshotName,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let domain = &facts.domain.name;
    let left_out = facts.record.meta.iter().flat_map(|meta| &meta.passed_over);
    let left_out: Vec<_> = left_out.map(|passed| &passed.disk).collect();
    for other in facts.inventory.undescribed.iter().filter(|other| !left_out.contains(&&other.name)) {
        let what = format!("{} ({})", other.name, other.image);
        match other.kind {
            UndescribedKind::Nvram => warnings.push(format!(
                "the NVRAM of domain {domain}, {what}, stays as it is: the domain's description does not name it"
            )),
            UndescribedKind::Disk => {
                let message = format!(
                    "snapshot {name} of domain {domain}: the guest writes to a disk that the domain's description does not \
                     name and that would not go back: {what}"
                );
                return Err(refused(message).with_advice(format!(
                    "unplug disk {0} from the guest, or describe disk {0}",
                    other.name
                )));
            }
        }
    }
    Ok(())
}

fn not_found(about: &str, part: &Part<'_>, found: &Found<'_>) -> Error {
    let tag = part.tag;
    match found {
        Found::Here(..) | Found::NoDisk => refused(format!("{about} is no longer a disk of the domain"))
            .with_advice("give the domain its disk back"),
        Found::Missing(disk) => refused(format!("{about}: {} does not hold the snapshot {tag}", disk.image))
            .with_advice("see what check says"),
        Found::OtherImage(disk) => {
            refused(format!("{about}: its image is {} now, which does not hold the snapshot", disk.image))
                .with_advice("give the domain its earlier image back")
        }
        Found::OtherId(disk, _) => refused(format!(
            "{about}: the snapshot {tag} in {} is not the recorded one: its id differs",
            disk.image
        ))
        .with_advice("see what check says"),
        Found::Ambiguous(disk) => {
            refused(format!("{about}: {} holds more than one snapshot {tag}", disk.image))
                .with_advice("delete the wrong one from the image by its id")
        }
    }
}
