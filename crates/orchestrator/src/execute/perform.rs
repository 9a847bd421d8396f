//! One step: the only place where ports are reached for an effect.

use std::time::Duration;

use futures_util::future::{Either, select, try_join};
use xlsnap_conf_store::Record;
use xlsnap_types::model::{DiskName, MemoryWay, Meta, SnapshotName};

use super::{Execution, Saving, interrupted};
use crate::journal::Draft;
use crate::look::{holds_memory, is_named, is_ours, is_taken};
use crate::step::{Does, Expected, ImageTarget, Step, UndoPoint};
use crate::{
    Effect, Error, ImageFile, Inventory, Kind, PortError, PortErrorKind, Run, SaveTo, SnapshotAction,
    SnapshotId,
};

/// A guest whose writes are tracked is not stopped longer for it.
const LONG_PAUSE: Duration = Duration::from_secs(2);

impl Does {
    /// The snapshot that it takes, if it is taken at one instant with others.
    pub(super) fn snapshot(&self) -> Option<SnapshotAction> {
        match self {
            Self::Take(action) => Some(action.clone()),
            Self::MarkUndo(point) => Some(SnapshotAction::Internal {
                disk: point.disk.clone(),
                tag: point.tag.clone(),
                image: point.image.clone(),
            }),
            _ => None,
        }
    }

    pub(super) fn failed(&self, error: PortError) -> Error {
        Error::new(error.kind.into(), error.effect, self.failure()).with_source(error)
    }

    pub(super) fn unstored(&self, error: xlsnap_conf_store::Error) -> Error {
        Error::new(error.kind().into(), error.effect().into(), self.failure()).with_source(error)
    }
}

impl<'e> Execution<'e> {
    /// Does one step.
    pub(super) async fn perform(&self, step: &Step) -> Result<(), Error> {
        let does = &step.does;
        if does.is_long() {
            return self.interruptible(does).await;
        }
        self.act(does).await
    }

    async fn interruptible(&self, does: &Does) -> Result<(), Error> {
        let Some(interrupt) = self.ports.interrupt.get() else { return self.act(does).await };
        let wish = match select(Box::pin(self.act(does)), interrupt.requested()).await {
            Either::Left((done, _)) => return done,
            Either::Right(((), _)) => interrupted(Effect::Unknown),
        };
        let parked = match does {
            Does::Merge(merge) => self.ports.layers.need(&does.failure())?.park(merge).await,
            Does::Stream(stream) => self.ports.layers.need(&does.failure())?.park_stream(stream).await,
            _ => return Err(wish),
        };
        // It may go on, and so may a guest stand still that was stopped for it.
        match parked.map_err(|e| does.failed(e.after_effect()))? {
            // It came first; what follows is short. A job that is done is met again, and made durable.
            true if matches!(does, Does::Merge(_)) => self.act(does).await.map_err(|error| {
                let kind = error.kind();
                error.ended_as(kind, Effect::Unknown)
            }),
            true => Ok(()),
            false => Err(wish.ended_as(Kind::Failed, Effect::None)),
        }
    }

    async fn act(&self, does: &Does) -> Result<(), Error> {
        let (ports, progress) = (&self.ports, self.ports.progress);
        let telling = &self.telling(does);
        let subject = does.failure();
        let port = |result: Result<(), PortError>| result.map_err(|e| does.failed(e));
        match does {
            Does::MakeLayer(overlay) => port(ports.overlays.need(&subject)?.make(overlay).await),
            Does::CopyOut(copy) => port(ports.layers.need(&subject)?.copy_out(copy, telling).await),
            Does::RemoveLayer(overlay) => port(ports.overlays.need(&subject)?.discard(overlay).await),
            Does::Adopt(to) => self.adopt(does, &[to.image()]).await,
            Does::SwapTop { to, .. } => port(ports.layers.need(&subject)?.swap(&to.disk, to).await),
            Does::Detach(from) => port(ports.names.need(&subject)?.detach(&from.disk).await),
            Does::ReadyNames(names) => port(ports.names.need(&subject)?.ready_names(names).await),
            Does::SwapNames(names) => port(ports.names.need(&subject)?.swap_names(names).await),
            Does::SwapNamesBack(names) => port(ports.names.need(&subject)?.swap_names_back(names).await),
            Does::Rename { file, over } => port(ports.names.need(&subject)?.rename(file, over).await),
            Does::SetImage { snapshot, disk, from, to } => {
                self.set_images(does, snapshot, &[(disk, from.as_str(), to.as_str())]).await
            }
            Does::SetMemory { snapshot, from, to } => self.set_memory(does, snapshot, (from, to)).await,
            Does::Merge(merge) => port(ports.layers.need(&subject)?.merge(merge, telling).await),
            Does::Stream(stream) => port(ports.layers.need(&subject)?.stream(stream, telling).await),
            Does::Reheader { child, base } => port(ports.layers.need(&subject)?.reheader(child, base).await),
            Does::Unlink(layer) => self.unlink(does, layer).await,
            Does::EmptyLayer { layer, overlay } => self.empty_layer(does, layer, overlay).await,
            Does::SetPart { snapshot, disk, to, .. } => self.set_parts(does, snapshot, &[(disk, to)]).await,
            Does::NoteLayers { add, remove } => self.note_layers(does, add, remove).await,
            Does::Freeze { bound } => self.freeze(does, *bound).await,
            Does::Thaw { bound } => {
                self.thaw(*bound).await;
                Ok(())
            }
            Does::StopGuest { was } => {
                port(ports.pause.need(&subject)?.stop().await)?;
                self.found().stopped = was.runs().then(|| ports.clock.monotonic());
                Ok(())
            }
            Does::ResumeGuest => {
                port(ports.pause.need(&subject)?.resume().await)?;
                let mut found = self.found();
                if let Some(stopped) = found.stopped.take() {
                    found.pause = Some(ports.clock.monotonic().saturating_sub(stopped));
                }
                Ok(())
            }
            Does::ResetGuest => port(ports.pause.need(&subject)?.reset().await),
            Does::BeginMemory(save) => {
                let stopped = ports.memory.need(&subject)?.begin(save, progress).await;
                *self.saving.lock().await = Saving::Stopped(stopped.map_err(|e| does.failed(e))?);
                Ok(())
            }
            Does::RunOn(save) => {
                let Saving::Stopped(stopped) = self.take_saving().await else { return Err(not_begun(does)) };
                let (pause, unfinished) = stopped.run_on().await.map_err(|e| does.failed(e))?;
                *self.saving.lock().await = Saving::Unfinished(unfinished);
                self.note_pause(save.was, save.way(), pause);
                Ok(())
            }
            Does::FinishMemory(_) => {
                let Saving::Unfinished(unfinished) = self.take_saving().await else {
                    return Err(not_begun(does));
                };
                let saved = unfinished.finish().await.map_err(|e| does.failed(e))?;
                self.found().saved = Some(saved);
                Ok(())
            }
            Does::AbandonMemory(save) => {
                *self.saving.lock().await = Saving::Not;
                if save.to == SaveTo::Inside {
                    return port(ports.inside.need(&subject)?.abandon_inside(save).await);
                }
                port(ports.memory.need(&subject)?.abandon(save).await)
            }
            Does::Take(_) | Does::MarkUndo(_) => {
                let actions: Vec<SnapshotAction> = does.snapshot().into_iter().collect();
                self.take(does, &actions).await
            }
            Does::TakeInside { save, actions } => {
                let before = ports.clock.monotonic();
                let pause = ports.inside.need(&subject)?.take_inside(save, actions, telling).await;
                self.found().took = ports.clock.monotonic().saturating_sub(before);
                self.note_pause(save.was, save.way(), pause.map_err(|e| does.failed(e))?);
                Ok(())
            }
            Does::DropUndo(point) => self.drop_undo(does, point).await,
            Does::DropBitmap { disk, bitmap, .. } => port(ports.disks.drop_bitmap(disk, bitmap).await),
            Does::Apply { target, .. } => port(ports.disks.revert(&target.disk, &target.snapshot).await),
            Does::DeleteInside(target) => self.delete_inside(does, target).await,
            Does::DeleteInLayer(target) => port(ports.layers.need(&subject)?.delete_inside(target).await),
            Does::EndProcess(_) => port(ports.power.need(&subject)?.end().await),
            Does::Start { run } => port(ports.power.need(&subject)?.start(*run).await),
            Does::Restore { memory, run } => {
                port(ports.power.need(&subject)?.restore(memory, *run, telling).await)
            }
            Does::Load { inside, run, .. } => {
                port(ports.inside.need(&subject)?.load(inside, *run, telling).await)
            }
            Does::Release => port(ports.release.need(&subject)?.release().await),
            Does::TakeBack => port(ports.release.need(&subject)?.take_back().await),
            Does::RemoveMemory { file, .. } => port(ports.memory_files.need(&subject)?.remove(file).await),
            Does::StoreRecord(draft) => self.store_record(does, draft).await,
            Does::SetParent { snapshot, parent } => self.set_parent(does, snapshot, parent.as_ref()).await,
            Does::SetSnapshotId { snapshot, disk, id } => self.set_id(does, snapshot, (disk, id)).await,
            Does::MendImage { disk, .. } => port(ports.health.need(&subject)?.mend(disk).await),
            Does::DeleteRecord(name) => self.delete_record(does, name).await,
            Does::SetCurrent { to, .. } => {
                // Twice, so that one refusal of the store gives up nothing that is done.
                let noted = self.session.set_current(to.as_ref()).await;
                let noted = if noted.is_ok() { noted } else { self.session.set_current(to.as_ref()).await };
                noted.map_err(|e| does.unstored(e))
            }
            // The journal is written by the loop that knows how far it is.
            Does::Commit => Ok(()),
            Does::Look(expected) => self.look(does, expected).await,
        }
    }

    /// Steps that write one file of ours: it is written once.
    pub(super) async fn one_write(&self, steps: &[Step]) -> Result<(), Error> {
        let all = || steps.iter().map(|step| &step.does);
        let does = &steps[0].does;
        match does {
            Does::Adopt(_) => {
                let images =
                    all().filter_map(|does| if let Does::Adopt(to) = does { Some(to.image()) } else { None });
                self.adopt(does, &images.collect::<Vec<_>>()).await
            }
            Does::SetPart { snapshot, .. } => {
                let parts = all().filter_map(|does| match does {
                    Does::SetPart { disk, to, .. } => Some((disk, to)),
                    _ => None,
                });
                self.set_parts(does, snapshot, &parts.collect::<Vec<_>>()).await
            }
            Does::SetImage { snapshot, .. } => {
                let images = all().filter_map(|does| match does {
                    Does::SetImage { disk, from, to, .. } => Some((disk, from.as_str(), to.as_str())),
                    _ => None,
                });
                self.set_images(does, snapshot, &images.collect::<Vec<_>>()).await
            }
            // One after the other is as good.
            _ => {
                for does in all() {
                    self.act(does).await?;
                }
                Ok(())
            }
        }
    }

    async fn adopt(&self, does: &Does, images: &[(DiskName, ImageFile)]) -> Result<(), Error> {
        let overlays = self.ports.overlays.need(&does.failure())?;
        overlays.adopt(images).await.map_err(|e| does.failed(e))
    }

    async fn take_saving(&self) -> Saving<'e> {
        std::mem::replace(&mut *self.saving.lock().await, Saving::Not)
    }

    fn note_pause(&self, was: Run, way: MemoryWay, pause: Duration) {
        self.found().pause = was.runs().then_some(pause);
        if pause > LONG_PAUSE && way == MemoryWay::Background {
            self.warn(format!(
                "the guest stood still for {pause:?}, which is long for this way of saving memory"
            ));
        }
    }

    pub(super) async fn take(&self, does: &Does, actions: &[SnapshotAction]) -> Result<(), Error> {
        self.ports.disks.snapshot(actions).await.map_err(|e| does.failed(e))
    }

    /// Removes a mark. It is tried twice, since what is left of it is nothing that the next operation looks for.
    async fn drop_undo(&self, does: &Does, point: &UndoPoint) -> Result<(), Error> {
        if self.drop_undo_once(does, point).await.is_ok() {
            return Ok(());
        }
        self.found().looked = None;
        self.drop_undo_once(does, point).await
    }

    async fn drop_undo_once(&self, does: &Does, point: &UndoPoint) -> Result<(), Error> {
        let mark = |looked: &Inventory| looked.mark(point).map(|(_, snapshot)| snapshot);
        let known = self.found().looked.as_ref().and_then(mark);
        let snapshot = match known {
            Some(snapshot) => Some(snapshot),
            // A mark that was made after the last look.
            None => {
                let looked = self.ports.disks.inventory().await.map_err(|e| does.failed(e))?;
                mark(&looked)
            }
        };
        let Some(snapshot) = snapshot else { return Ok(()) };
        self.delete(does, &point.disk, &snapshot).await
    }

    async fn delete(&self, does: &Does, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), Error> {
        match self.ports.disks.delete(disk, snapshot).await {
            Err(e) if e.kind == PortErrorKind::NotFound => Ok(()),
            done => done.map_err(|e| does.failed(e)),
        }
    }

    /// Deletes inside an image, and looks where that failed: one that is gone is deleted.
    async fn delete_inside(&self, does: &Does, target: &ImageTarget) -> Result<(), Error> {
        let Err(error) = self.delete(does, &target.disk, &target.snapshot).await else { return Ok(()) };
        match self.ports.disks.inventory().await {
            Ok(looked) => {
                let disk = looked.disk(&target.disk);
                if disk.is_some_and(|disk| disk.holds(&target.snapshot)) {
                    let kind = error.kind();
                    return Err(error.ended_as(kind, Effect::None));
                }
                Ok(())
            }
            Err(_) => Err(error),
        }
    }

    async fn store_record(&self, does: &Does, draft: &Draft) -> Result<(), Error> {
        let record = {
            let found = self.found();
            let looked = found.looked.as_ref();
            let mut record = draft.record(looked, found.saved.as_ref());
            if let (Some(meta), Some(pause)) = (&mut record.meta, found.pause) {
                meta.pause_us = Some(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
            }
            record
        };
        if let Err(cause) = self.session.store_record(&record, false).await {
            let (store, uuid) = (self.session.store, self.session.domain.uuid);
            // It may be there although storing it failed; and what is there may be of another writer.
            match store.load(uuid, &draft.name).await {
                Ok(there) if is_ours(&there, draft, self.id) => {}
                Ok(_) => {
                    let message = format!("{}: another operation stored one of that name", does.failure());
                    return Err(Error::new(Kind::Refused, Effect::None, message).with_source(cause));
                }
                Err(e) if e.kind() == xlsnap_conf_store::Kind::NotFound => {
                    return Err(
                        Error::new(cause.kind().into(), Effect::None, does.failure()).with_source(cause)
                    );
                }
                Err(_) => {
                    return Err(
                        Error::new(cause.kind().into(), Effect::Unknown, does.failure()).with_source(cause)
                    );
                }
            }
        }
        self.found().record = Some(record);
        Ok(())
    }

    async fn set_parent(
        &self,
        does: &Does,
        name: &SnapshotName,
        parent: Option<&SnapshotName>,
    ) -> Result<(), Error> {
        self.change_meta(does, name, |meta| meta.parent = parent.cloned()).await
    }

    async fn set_id(
        &self,
        does: &Does,
        name: &SnapshotName,
        (disk, id): (&DiskName, &str),
    ) -> Result<(), Error> {
        let change = |meta: &mut Meta| {
            for found in meta.disks.iter_mut().filter(|found| found.disk == *disk) {
                found.id = Some(id.to_owned());
            }
        };
        self.change_meta(does, name, change).await
    }

    async fn set_images(
        &self,
        does: &Does,
        name: &SnapshotName,
        images: &[(&DiskName, &str, &str)],
    ) -> Result<(), Error> {
        let change = |meta: &mut Meta| {
            for found in &mut meta.disks {
                let named =
                    images.iter().find(|(disk, from, _)| found.disk == **disk && found.image == *from);
                if let Some((_, _, to)) = named {
                    found.image = (*to).to_owned();
                }
            }
        };
        self.change_meta(does, name, change).await
    }

    async fn change_meta(
        &self,
        does: &Does,
        name: &SnapshotName,
        change: impl FnOnce(&mut Meta),
    ) -> Result<(), Error> {
        self.change_record(does, name, |record| {
            if let Some(meta) = &mut record.meta {
                change(meta);
            }
        })
        .await
    }

    pub(super) async fn change_record(
        &self,
        does: &Does,
        name: &SnapshotName,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), Error> {
        let (store, uuid) = (self.session.store, self.session.domain.uuid);
        let mut record = match store.load(uuid, name).await {
            Ok(record) => record,
            // It was deleted behind the store's back: there is nothing to change any more.
            Err(e) if e.kind() == xlsnap_conf_store::Kind::NotFound => return Ok(()),
            Err(e) => return Err(does.unstored(e)),
        };
        if record.meta.as_ref().is_some_and(|meta| meta.format_version > Meta::FORMAT_VERSION) {
            self.warn(format!(
                "the record of snapshot {name} stays as it is, since a newer version of xlsnap wrote it: {}",
                does.failure()
            ));
            return Ok(());
        }
        let before = record.clone();
        change(&mut record);
        if record == before {
            return Ok(());
        }
        self.session.store_record(&record, true).await.map_err(|e| does.unstored(e))
    }

    async fn delete_record(&self, does: &Does, name: &SnapshotName) -> Result<(), Error> {
        match self.session.delete_record(name).await {
            Err(e) if e.kind() != xlsnap_conf_store::Kind::NotFound => {
                let names = self.session.store.names(self.session.domain.uuid).await;
                let is_gone = names.is_ok_and(|names| !names.contains(name));
                if is_gone { Ok(()) } else { Err(does.unstored(e)) }
            }
            _ => Ok(()),
        }
    }

    /// Whether every disk has its part of a snapshot now.
    pub(crate) async fn are_taken(
        &self,
        actions: &[SnapshotAction],
        inside: bool,
    ) -> Result<bool, PortError> {
        let (guest, looked) = try_join(self.ports.guest.state(), self.ports.disks.inventory()).await?;
        let is_there = is_taken(actions, guest, &looked) && (!inside || holds_memory(actions, &looked));
        self.found().looked = Some(looked);
        Ok(is_there)
    }

    async fn look(&self, does: &Does, expected: &Expected) -> Result<(), Error> {
        let unseen = |mut e: PortError| {
            // What was done stays done, whether it can be looked at or not.
            e.effect = Effect::Done;
            Error::new(e.kind.into(), e.effect, "the disks cannot be looked at afterwards").with_source(e)
        };
        match expected {
            Expected::Taken { actions, inside } => {
                if self.are_taken(actions, *inside).await.map_err(unseen)? {
                    return Ok(());
                }
                // Two programs with the same image each keep their own list of its snapshots; the later one to write wins.
                let cause = "a snapshot is not in its image after it was taken; another program may write to the image";
                let cause = PortError::new(PortErrorKind::Corrupt, Effect::Unknown, cause);
                Err(does.failed(cause).ended_as(Kind::Failed, Effect::Unknown))
            }
            Expected::Named(swaps) => {
                let looked = self.ports.disks.inventory().await.map_err(unseen)?;
                let wrong = swaps.iter().find(|names| !is_named(names, &looked)).map(|names| {
                    format!(
                        "disk {} does not write to the new file under the name {}",
                        names.old.disk,
                        names.kept()
                    )
                });
                self.found().looked = Some(looked);
                match wrong {
                    None => Ok(()),
                    Some(message) => Err(Error::new(Kind::Failed, Effect::Unknown, message)),
                }
            }
            Expected::Sizes(targets) => {
                let looked = self.ports.disks.inventory().await.map_err(unseen)?;
                let wrong = targets.iter().find(|target| {
                    let size = looked.disk(&target.disk).map(|disk| disk.virtual_size);
                    size.is_none() || target.virtual_size.is_some_and(|expected| size != Some(expected))
                });
                let message = wrong.map(|target| {
                    format!("disk {} does not have the size that it had in the snapshot", target.disk)
                });
                self.found().looked = Some(looked);
                match message {
                    None => Ok(()),
                    Some(message) => Err(Error::new(Kind::Failed, Effect::Unknown, message)),
                }
            }
        }
    }
}

fn not_begun(does: &Does) -> Error {
    let message = format!("{}: no save has begun", does.failure());
    Error::new(Kind::Failed, Effect::None, message)
}
