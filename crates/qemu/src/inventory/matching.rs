//! Which of QEMU's disks a described one is.

use std::collections::{HashMap, HashSet};

use xlsnap_orchestrator::{
    Can, Disk, Effect, ImageSnapshot, PortError, PortErrorKind, Undescribed, UndescribedKind,
};
use xlsnap_qmp_transport::commands::SnapshotInfo;
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::DiskSpec;
use crate::images::inventory::identity;

use super::attached::{Attached, Medium};
use super::identity::Files;
use super::{naming, swapped};

/// A disk of the domain, and how QEMU knows it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) disk: Disk,
    /// The id of the guest's device, or its path in QEMU.
    pub(crate) device: Option<String>,
    /// Whether a device, a drive or an export has it, and it is not a node alone.
    pub(crate) is_served: bool,
    /// `None` for an empty drive.
    pub(crate) medium: Option<Medium>,
}

/// All disks, under names made of QEMU's own.
pub(crate) fn undescribed(attached: Vec<Attached>, files: &Files) -> Vec<Found> {
    let names = naming::names(&attached, []);
    let found = names.into_iter().zip(attached).map(|(name, attached)| {
        let image = attached.medium.as_ref().map(|medium| files.absolute(&medium.file)).unwrap_or_default();
        let by_node = naming::is_named_by_node(&attached);
        let mut found = found(name, image, attached.removable, Some(attached), None, files);
        if by_node && found.disk.external.is_yes() {
            let why = "only its node has a name, and an overlay is another node; describe the domain first";
            found.disk.external = Can::no(why);
        }
        found
    });
    found.collect()
}

/// The described disks, in their order, and what the guest writes to besides. `below` has what is right below a disk's described
/// image, where that was merged into it and the description may not say so yet.
///
/// # Errors
/// A described disk that QEMU does not have, or has with another image.
pub(crate) fn described(
    specs: &[DiskSpec],
    attached: Vec<Attached>,
    below: &HashMap<DiskName, String>,
    files: &mut Files,
) -> Result<(Vec<Found>, Vec<Undescribed>), PortError> {
    let mut taken = HashSet::new();
    let mut places = Vec::with_capacity(specs.len());
    for spec in specs {
        let place = place_of(spec, &attached, below.get(&spec.name).map(String::as_str), files)?;
        if let Some(place) = place
            && !taken.insert(place)
        {
            let message =
                format!("disk {}: the description has its image twice, under another name too", spec.name);
            return Err(refused(message));
        }
        places.push(place);
    }
    let mut attached: Vec<Option<Attached>> = attached.into_iter().map(Some).collect();
    let take = |(spec, place): (&DiskSpec, Option<usize>)| {
        let attached = place.and_then(|place| attached[place].take());
        combine(spec, attached, files)
    };
    let found = specs.iter().zip(places).map(take).collect::<Result<_, _>>()?;
    let is_written = |attached: &Attached| {
        let writable = attached.medium.as_ref().is_some_and(|medium| !medium.read_only);
        // A drive without a device is not the guest's, and what is removable is in no snapshot as it is.
        writable && attached.device.is_some() && !attached.removable
    };
    let others: Vec<Attached> = attached.into_iter().flatten().filter(is_written).collect();
    let names = naming::names(&others, specs.iter().map(|spec| &spec.name));
    let other = |(name, attached): (DiskName, &Attached)| Undescribed {
        name,
        image: attached.medium.as_ref().map(|medium| files.absolute(&medium.file)).unwrap_or_default(),
        kind: if naming::is_flash(attached) { UndescribedKind::Nvram } else { UndescribedKind::Disk },
    };
    let others = names.into_iter().zip(&others).map(other).collect();
    Ok((found, others))
}

/// Where the described disk is among the attached ones; `None` for a removable one that is not in its drive.
fn place_of(
    spec: &DiskSpec,
    attached: &[Attached],
    below: Option<&str>,
    files: &mut Files,
) -> Result<Option<usize>, PortError> {
    if let Some(name) = &spec.node
        && let Some(place) = attached.iter().position(|attached| attached.answers_to(name))
    {
        let wrong = match &attached[place].medium {
            Some(medium)
                if !spec.file.is_empty()
                    && !holds(medium, &spec.file, files)
                    && !has_moved(medium, spec, below, files) =>
            {
                &medium.file
            }
            _ => return Ok(Some(place)),
        };
        let message = format!(
            "disk {}: its image is {}, and QEMU's {name} has {wrong}; correct the description",
            spec.name, spec.file
        );
        return Err(refused(message));
    }
    if spec.file.is_empty() {
        return Ok(attached.iter().position(|attached| attached.answers_to(spec.name.as_str())));
    }
    let media = || attached.iter().enumerate().filter_map(|(at, a)| Some((at, a.medium.as_ref()?)));
    // The image itself, before one that is below another disk's: a base may serve many.
    let itself = media().find(|(_, medium)| files.same(&spec.file, &medium.file));
    let place = itself
        .or_else(|| media().find(|(_, medium)| is_below(medium, &spec.file, files)))
        .or_else(|| media().find(|(_, medium)| has_moved(medium, spec, below, files)));
    match place {
        Some((place, _)) => Ok(Some(place)),
        None if spec.removable => Ok(None),
        None => Err(PortError::new(PortErrorKind::NotFound, Effect::None, absent(spec, attached))),
    }
}

fn holds(medium: &Medium, file: &str, files: &mut Files) -> bool {
    files.same(file, &medium.file) || is_below(medium, file, files)
}

/// Whether QEMU was made to write to this medium in place of the described image: the description follows later.
fn has_moved(medium: &Medium, spec: &DiskSpec, below: Option<&str>, files: &mut Files) -> bool {
    swapped::is_given(&medium.node, &spec.name) || below.is_some_and(|below| files.same(below, &medium.file))
}

fn is_below(medium: &Medium, file: &str, files: &mut Files) -> bool {
    medium.chain.iter().any(|theirs| files.same(file, theirs))
}

fn absent(spec: &DiskSpec, attached: &[Attached]) -> String {
    let mut has: Vec<String> = attached
        .iter()
        .filter_map(|attached| attached.medium.as_ref())
        .map(|medium| format!("{} ({})", medium.file, medium.node))
        .take(8)
        .collect();
    if has.is_empty() {
        has.push("no image at all".into());
    }
    format!("disk {}: QEMU has not opened its image {}; it has {}", spec.name, spec.file, has.join(", "))
}

/// What is known of a disk from both sides. QEMU's word counts: it is what takes the writes.
fn combine(spec: &DiskSpec, attached: Option<Attached>, files: &mut Files) -> Result<Found, PortError> {
    let Some(attached) = attached else {
        return Ok(found(spec.name.clone(), spec.file.clone(), true, None, Some(spec), files));
    };
    let removable = spec.removable || attached.removable;
    let Some(medium) = &attached.medium else {
        let empty = Some(attached);
        return Ok(found(spec.name.clone(), spec.file.clone(), removable, empty, Some(spec), files));
    };
    if !spec.file.is_empty() && !files.same(&spec.file, &medium.file) {
        // An overlay that the description does not know yet: what takes the writes is the overlay.
        let image = files.absolute(&medium.file);
        tracing::debug!(disk = %spec.name, described = spec.file, image, "the image is below another now");
        let gone = !files.exists(&medium.file);
        let mut found = found(spec.name.clone(), image, removable, Some(attached), Some(spec), files);
        if gone {
            // What `-drive snapshot=on` does: the overlay has no name any more and ends with the process.
            let why = Can::no("its writes go to a temporary file that ends with QEMU");
            found.disk.internal.clone_from(&why);
            found.disk.external = why;
        }
        return Ok(found);
    }
    if !spec.file.is_empty() && medium.driver != spec.format.driver() {
        let message = format!(
            "disk {}: the description says that {} is {}, and QEMU has it open as {}; correct the description",
            spec.name, spec.file, spec.format, medium.driver
        );
        return Err(refused(message));
    }
    let image = if spec.file.is_empty() { files.absolute(&medium.file) } else { spec.file.clone() };
    Ok(found(spec.name.clone(), image, removable, Some(attached), Some(spec), files))
}

fn found(
    name: DiskName,
    image: String,
    removable: bool,
    attached: Option<Attached>,
    spec: Option<&DiskSpec>,
    files: &Files,
) -> Found {
    let no_medium = || Some("its drive is empty".to_owned());
    let no_swap = attached.as_ref().map_or_else(no_medium, Attached::no_swap);
    let is_served = attached.as_ref().is_some_and(Attached::is_served);
    let (mut medium, device) = attached.map_or((None, None), |attached| (attached.medium, attached.device));
    let no_revert = |medium: &Medium| {
        medium.no_revert(&image, spec.and_then(|spec| spec.key_file.as_deref()), files.open_in_qemu())
    };
    let no_revert = medium.as_ref().map_or_else(no_medium, no_revert);
    let disk = Disk {
        identity: identity(&image),
        name,
        image,
        format: medium.as_ref().map_or(ImageFormat::Raw, |medium| ImageFormat::from_driver(&medium.driver)),
        virtual_size: medium.as_ref().map_or(0, |medium| medium.virtual_size),
        read_only: medium.as_ref().is_none_or(|medium| medium.read_only),
        removable,
        internal: Can::unless(medium.as_ref().map_or_else(no_medium, Medium::no_internal)),
        external: Can::unless(medium.as_ref().map_or_else(no_medium, Medium::no_external)),
        revert: Can::unless(no_revert),
        swap: Can::unless(no_swap),
        jobs: Can::Yes,
        adopt: Can::Yes,
        encrypted: medium.as_ref().is_some_and(|medium| medium.encrypted),
        bitmaps: medium.as_ref().map(|medium| medium.bitmaps.clone()).unwrap_or_default(),
        overlays: spec.and_then(|spec| spec.overlays.clone()),
        snapshots: medium
            .as_mut()
            .map(|medium| std::mem::take(&mut medium.snapshots).into_iter().map(snapshot).collect())
            .unwrap_or_default(),
    };
    Found { disk, device, is_served, medium }
}

fn snapshot(snapshot: SnapshotInfo) -> ImageSnapshot {
    ImageSnapshot {
        id: snapshot.id,
        name: snapshot.name,
        date: snapshot.date_sec,
        vm_state_size: snapshot.vm_state_size,
    }
}

fn refused(message: String) -> PortError {
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}

impl Attached {
    /// Whether `name` is one that QEMU has for it.
    fn answers_to(&self, name: &str) -> bool {
        let node = self.medium.as_ref().map(|medium| medium.node.as_str());
        let names = [self.drive.as_deref(), self.export.as_deref(), node, naming::device_id(self)];
        names.into_iter().flatten().any(|theirs| theirs == name)
    }
}
