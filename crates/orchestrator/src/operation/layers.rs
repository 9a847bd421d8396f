//! What planning is to know of layers, by looking.

use std::collections::{BTreeMap, BTreeSet};

use xlsnap_conf_store::{Entry, Kind as StoreKind, Record};
use xlsnap_types::model::{DiskMeta, DiskName, LayerRecord, Owner, SnapshotName};

use super::guest;
use crate::error::{from_port, from_store};
use crate::layers::{
    InternalPart, LayerNode, Stray, external_parts, gather, internal_parts, strays, tells_needs,
};
use crate::plan::{LayerFacts, about_unread};
use crate::session::chain;
use crate::step::{Does, Stage};
use crate::{
    Can, CopyOut, Disk, DomainRef, Effect, Error, GuestState, Inventory, Kind, LayerFile, Merge, Overlay,
    Ports,
};

/// What the records of a domain say of layers.
#[derive(Default)]
struct Recorded {
    /// Those with external parts.
    external: BTreeMap<SnapshotName, Record>,
    /// The internal parts of all.
    inside: Vec<InternalPart>,
    /// Those that cannot be read, or do not say it: what they need is not known.
    unread: Vec<SnapshotName>,
    /// The first of these that may be read again later, and why it is not now.
    not_now: Option<(SnapshotName, String)>,
}

async fn recorded(ports: &Ports<'_>, domain: &DomainRef) -> Result<Recorded, Error> {
    let mut recorded = Recorded::default();
    let mut visit = |entry: Entry| {
        let Ok(name) = SnapshotName::new(entry.name) else { return };
        let record = match entry.record {
            Ok(record) => record,
            Err(error) => {
                if is_for_now(&error) {
                    recorded.not_now.get_or_insert_with(|| (name.clone(), chain(&error)));
                }
                return recorded.unread.push(name);
            }
        };
        recorded.inside.extend(internal_parts(&name, &record));
        if record.snapshot.disks.iter().any(|disk| disk.is_external()) {
            if !tells_needs(&record) {
                recorded.unread.push(name.clone());
            }
            recorded.external.insert(name, record);
        }
    };
    let listed = ports.store.list(domain.uuid, &mut visit).await;
    listed.map_err(|e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name)))?;
    Ok(recorded)
}

/// Whether a record that cannot be read may be read again: it is whole, as far as is known.
pub(super) fn is_for_now(error: &xlsnap_conf_store::Error) -> bool {
    !matches!(error.kind(), StoreKind::Malformed | StoreKind::Newer)
}

/// What to do about such a record.
pub(super) fn try_again(domain: &DomainRef, name: &SnapshotName) -> String {
    format!("try again; where it stays so, {}", about_unread(domain, name))
}

/// Looks at the layers of a domain; at none where no record has an external part and the ledger is empty.
pub(crate) async fn layer_facts(
    ports: &Ports<'_>,
    domain: &DomainRef,
    inventory: &Inventory,
) -> Result<LayerFacts, Error> {
    let recorded = recorded(ports, domain).await?;
    let ledger = ledger(ports, domain).await?;
    if recorded.external.is_empty() && recorded.unread.is_empty() && ledger.is_empty() {
        return Ok(LayerFacts::default());
    }
    facts_of(ports, domain, inventory, recorded, &ledger).await
}

/// The same, where the parts of this record need it: it has external ones, or internal ones in another file than the disk's image.
pub(crate) async fn layers_of_record(
    ports: &Ports<'_>,
    domain: &DomainRef,
    inventory: &Inventory,
    record: &Record,
) -> Result<LayerFacts, Error> {
    let external = record.snapshot.disks.iter().any(|disk| disk.is_external());
    if !external && !is_elsewhere(record, inventory) {
        return Ok(LayerFacts::default());
    }
    layer_facts(ports, domain, inventory).await
}

/// Whether a part of the record is in another file than its disk writes to.
pub(super) fn is_elsewhere(record: &Record, inventory: &Inventory) -> bool {
    let is_elsewhere =
        |meta: &DiskMeta| inventory.disk(&meta.disk).is_none_or(|disk| disk.image != meta.image);
    record.meta.iter().flat_map(|meta| &meta.disks).any(is_elsewhere)
}

/// The same, of a domain without external snapshots too.
pub(crate) async fn layers_of_tops(
    ports: &Ports<'_>,
    domain: &DomainRef,
    inventory: &Inventory,
) -> Result<LayerFacts, Error> {
    let recorded = recorded(ports, domain).await?;
    let ledger = ledger(ports, domain).await?;
    facts_of(ports, domain, inventory, recorded, &ledger).await
}

async fn ledger(ports: &Ports<'_>, domain: &DomainRef) -> Result<Vec<LayerRecord>, Error> {
    let read = ports.store.domain_record(domain.uuid).await;
    let record =
        read.map_err(|e| from_store(e, format!("what is stored of domain {} cannot be read", domain.name)))?;
    Ok(record.map(|record| record.layers).unwrap_or_default())
}

async fn facts_of(
    ports: &Ports<'_>,
    domain: &DomainRef,
    inventory: &Inventory,
    Recorded { external: records, inside, unread, not_now }: Recorded,
    ledger: &[LayerRecord],
) -> Result<LayerFacts, Error> {
    let state = guest(ports, domain).await?;
    let mut facts = LayerFacts {
        tree: gather(ports, domain, inventory, &records, ledger).await?,
        parts: external_parts(&records),
        inside,
        renames: renamable(ports, state, inventory),
        guest: state.run(),
        served: state == GuestState::Serving,
        no_pause: ports.pause.can().why().map(str::to_owned),
        closed: BTreeMap::new(),
        unread,
        not_now,
        doubt: None,
        lent: BTreeSet::new(),
        taken: BTreeSet::new(),
        strays: Vec::new(),
    };
    facts.strays = strays(ports, domain, &facts.tree).await?;
    facts.close_claimed(ports, domain).await?;
    // What such a disk wrote last is what it holds, not what a revert gave up.
    for node in facts.tree.nodes().iter().filter(|node| inventory.disk(&node.disk).is_none()) {
        let why = format!("its disk {} is none of the domain's now, and may have written to it", node.disk);
        facts.closed.entry(node.layer.file.clone()).or_insert(why);
    }
    Ok(facts)
}

/// The disks whose image can be named otherwise now: of a domain that is on its process has to close it meanwhile.
fn renamable(ports: &Ports<'_>, guest: GuestState, inventory: &Inventory) -> BTreeSet<DiskName> {
    let on = guest != GuestState::Off;
    let can_stop = !on || (guest.is_on() && ports.pause.get().is_some());
    let can = |disk: &&Disk| {
        let loses_bitmaps = disk.bitmaps.iter().any(|bitmap| !bitmap.persistent);
        ports.names.get().is_some() && can_stop && (!on || disk.swap.is_yes() && !loses_bitmaps)
    };
    inventory.disks.iter().filter(can).map(|disk| disk.name.clone()).collect()
}

impl LayerFacts {
    /// Refuses where a record may be read again later: what it needs is known then.
    pub(super) fn refuse_not_now(&self, domain: &DomainRef) -> Result<(), Error> {
        let Some((name, why)) = &self.not_now else { return Ok(()) };
        let message =
            format!("the record of snapshot {name} of domain {} cannot be read now ({why})", domain.name);
        Err(Error::new(Kind::Failed, Effect::None, message).with_advice(try_again(domain, name)))
    }

    /// Closes the layers that other domains stand on, or write to, and those that something unrecorded stands on.
    async fn close_claimed(&mut self, ports: &Ports<'_>, domain: &DomainRef) -> Result<(), Error> {
        for Stray { file, base, .. } in &self.strays {
            self.closed.insert(base.clone(), format!("{file} stands on it, which no record names"));
        }
        let Some(claims) = ports.claims.get() else { return Ok(()) };
        let files: Vec<String> = self.tree.nodes().iter().map(|node| node.layer.file.clone()).collect();
        let asked = claims.of(&files).await;
        let asked = asked.map_err(|e| {
            let what =
                format!("it cannot be told which other domains use the images of domain {}", domain.name);
            from_port(e, what)
        })?;
        self.closed.extend(asked.files);
        self.doubt = asked.doubt;
        Ok(())
    }

    /// Notes the names of overlays to be made that something has already. Whether there are such, so that another plan is needed.
    pub(super) async fn find_taken(&mut self, ports: &Ports<'_>, stages: &[Stage]) -> Result<bool, Error> {
        let made = stages.iter().flat_map(Stage::steps).filter_map(|step| match &step.does {
            Does::MakeLayer(Overlay { file, .. }) => Some(file.as_str()),
            Does::CopyOut(copy) => Some(copy.to.file.as_str()),
            _ => None,
        });
        self.take_names(ports, made).await
    }

    /// The same of these names.
    pub(super) async fn take_names<'f>(
        &mut self,
        ports: &Ports<'_>,
        files: impl Iterator<Item = &'f str> + Send,
    ) -> Result<bool, Error> {
        let Some(overlays) = ports.overlays.get() else { return Ok(false) };
        let mut met = false;
        for file in files {
            let there = overlays.exists(file).await;
            if there.map_err(|e| from_port(e, format!("the overlay {file} cannot be looked for")))? {
                met |= self.taken.insert(file.to_owned());
            }
        }
        Ok(met)
    }

    /// Refuses overlays where what is written to them would be kept less well than their bases.
    pub(super) async fn refuse_places(
        &self,
        ports: &Ports<'_>,
        about: &str,
        stages: &[Stage],
    ) -> Result<(), Error> {
        let mut before = 0;
        for step in stages.iter().flat_map(Stage::steps) {
            if let Does::CopyOut(copy) = &step.does {
                before = self.refuse_full(ports, about, copy, before).await?;
            }
            let Does::MakeLayer(Overlay { disk, file, base, .. }) = &step.does else { continue };
            let overlays = ports.overlays.need(&step.does.failure())?;
            let can = overlays.place(base, file).await;
            let can =
                can.map_err(|e| from_port(e, format!("the place of the overlay {file} cannot be told")))?;
            if let Can::No(why) = can {
                let message = format!("{about}: the overlay {file} of disk {disk} cannot be made: {why}");
                return Err(Error::new(Kind::Refused, Effect::None, message)
                    .with_advice("name a directory for the overlays in the domain's file"));
            }
        }
        Ok(())
    }

    /// Refuses a copy for which there is no room beside those `before` it, as if all were on one file system; gives the bytes of all. It takes no
    /// more than what is in the layer's chain.
    async fn refuse_full(
        &self,
        ports: &Ports<'_>,
        about: &str,
        copy: &CopyOut,
        before: u64,
    ) -> Result<u64, Error> {
        let layers = ports.layers.need(about)?;
        let chain = self.tree.chain(&copy.from.file);
        let data: u64 = chain.iter().map(|node| node.layer.bytes).fold(0, u64::saturating_add);
        let needed = copy.whole.unwrap_or(data.min(copy.virtual_size));
        let room = layers.room(&copy.to.file).await;
        let room = room.map_err(|e| from_port(e, format!("the room for {} cannot be told", copy.to.file)))?;
        let all = before.saturating_add(needed);
        if room >= all {
            return Ok(all);
        }
        let others =
            if before > 0 { format!(" beside the {before} of those before it") } else { String::new() };
        let message = format!(
            "{about}: the copy of disk {} takes up to {needed} bytes{others}, and there is room for {room} where {} is to be",
            copy.to.disk, copy.to.file
        );
        Err(Error::new(Kind::Refused, Effect::None, message).with_advice("make room there first"))
    }

    /// Refuses to remove an image of the domain's, after it was merged into a file that was named for that, where it has another name: what
    /// that led to would get old. And to give that file the image's name where it is none that can have another.
    pub(super) async fn refuse_other_names(
        &self,
        ports: &Ports<'_>,
        domain: &DomainRef,
        stages: &[Stage],
    ) -> Result<(), Error> {
        // The domain's own images, and under which name each is now.
        let own = self.tree.nodes().iter().filter(|node| node.owner == Owner::Domain).map(LayerNode::file);
        let mut own: BTreeMap<String, LayerFile> = own.map(|layer| (layer.file.clone(), layer)).collect();
        for step in stages.iter().flat_map(Stage::steps) {
            let (about, file) = match &step.does {
                Does::Merge(Merge { from, into, .. }) => {
                    let Some(file) = own.remove(&from.file) else { continue };
                    (format!("{} is not removed when what it holds is in {}", file.file, into.file), file)
                }
                Does::Rename { file, over } if self.lent.contains(&file.file) => {
                    (format!("{} does not get the name {}", file.file, over.file), file.clone())
                }
                Does::Rename { file, over } => {
                    if let Some(renamed) = own.remove(&file.file) {
                        own.insert(over.file.clone(), renamed);
                    }
                    continue;
                }
                _ => continue,
            };
            let about = format!("disk {} of domain {}: {about}", file.disk, domain.name);
            let can = ports.names.need(&about)?.movable(&file.file).await;
            let can = can.map_err(|e| from_port(e, format!("it cannot be told what {} is", file.file)))?;
            if let Can::No(why) = can {
                let advice = format!("leave --into-base out, or let {} be a file of one name", file.file);
                return Err(
                    Error::new(Kind::Refused, Effect::None, format!("{about}: {why}")).with_advice(advice)
                );
            }
        }
        Ok(())
    }

    /// Takes the limit off the copying that does not keep to it, and tells that.
    pub(super) async fn limit(
        &self,
        ports: &Ports<'_>,
        stages: &mut [Stage],
        warnings: &mut Vec<String>,
    ) -> Result<(), Error> {
        for step in stages.iter_mut().flat_map(Stage::steps_mut) {
            let Does::Stream(stream) = &mut step.does else { continue };
            let Some((layers, rate)) = ports.layers.get().zip(stream.rate) else { continue };
            let limits = layers.limits(stream).await;
            let limits = limits.map_err(|e| {
                from_port(e, format!("how data is copied into {} cannot be told", stream.into.file))
            })?;
            if let Can::No(why) = limits {
                stream.rate = None;
                warnings.push(format!(
                    "the limit of {rate} bytes a second does not apply to what is copied into {}: {why}",
                    stream.into.file
                ));
            }
        }
        Ok(())
    }

    /// Closes the layers that a plan would merge or copy into and that have no room for it. Whether there are such, so that another
    /// plan is needed.
    pub(super) async fn close_full(&mut self, ports: &Ports<'_>, stages: &[Stage]) -> Result<bool, Error> {
        let Some(layers) = ports.layers.get() else { return Ok(false) };
        let before = self.closed.len();
        for step in stages.iter().flat_map(Stage::steps) {
            let (into, needed) = match &step.does {
                Does::Merge(merge) => {
                    (&merge.into.file, self.tree.get(&merge.from.file).map_or(0, |node| node.layer.bytes))
                }
                Does::Stream(stream) => (&stream.into.file, self.streamed_bytes(stream)),
                _ => continue,
            };
            let room = layers.room(into).await;
            let room = room.map_err(|e| from_port(e, format!("the room beside {into} cannot be told")))?;
            if room < needed {
                let why = format!(
                    "{needed} bytes would be merged into it, and there is room for {room} where it is"
                );
                self.closed.insert(into.clone(), why);
            }
        }
        Ok(self.closed.len() > before)
    }
}
