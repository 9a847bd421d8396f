//! The disks, with QEMU's rules and its words.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Bitmap, Can, Disk, Disks, Effect, GuestState, ImageFile, Inventory, Overlay, Overlays, PortError,
    PortErrorKind, SnapshotAction, SnapshotId,
};
use xlsnap_types::model::{DiskName, ImageFormat};

use super::backend::{STAND_IN, State, refuse};
use super::faults::Verdict;
use super::{FakeBackend, FakeDisk, Image};

impl State {
    fn find(&self, disk: &DiskName) -> Result<FakeDisk, PortError> {
        match self.disks.iter().find(|d| d.name == *disk) {
            Some(disk) => Ok(disk.clone()),
            None => {
                refuse(PortErrorKind::NotFound, format!("Cannot find device='{disk}' nor node-name='{disk}'"))
            }
        }
    }

    fn file(&mut self, file: &str) -> Result<&mut Image, PortError> {
        match self.files.get_mut(file) {
            Some(image) => Ok(image),
            None => {
                refuse(PortErrorKind::NotFound, format!("Could not open '{file}': No such file or directory"))
            }
        }
    }

    /// The disk's image, to be written to.
    fn writable(&mut self, disk: &FakeDisk) -> Result<&mut Image, PortError> {
        if disk.read_only {
            return refuse(PortErrorKind::Refused, format!("Device '{}' is read only", disk.name));
        }
        let image = self.file(&disk.top)?;
        if image.in_use {
            return refuse(
                PortErrorKind::Busy,
                format!("Could not open '{}': Failed to get \"write\" lock", disk.top),
            );
        }
        Ok(image)
    }

    fn act(&mut self, action: &SnapshotAction, now: u64) -> Result<(), PortError> {
        match action {
            SnapshotAction::Internal { disk, tag, .. } => {
                let disk = self.find(disk)?;
                let image = self.writable(&disk)?;
                if image.format != ImageFormat::Qcow2 {
                    return refuse(
                        PortErrorKind::Refused,
                        format!(
                            "Block format 'raw' used by device '{}' does not support internal snapshots",
                            disk.name
                        ),
                    );
                }
                if tag.is_empty() {
                    return refuse(PortErrorKind::Refused, "Name is empty");
                }
                if image.has(tag) {
                    return refuse(
                        PortErrorKind::AlreadyExists,
                        format!("Snapshot with name '{tag}' already exists on device '{}'", disk.name),
                    );
                }
                image.take(tag, now);
            }
            SnapshotAction::External(overlay) => {
                let disk = self.find(&overlay.disk)?;
                self.writable(&disk)?;
                let base = self.file(&overlay.file)?.base.clone();
                if base.as_deref() != Some(&disk.top) {
                    return refuse(
                        PortErrorKind::Refused,
                        format!("the overlay {} has another base", overlay.file),
                    );
                }
                // While it is off no guest writes: the description alone says which image is next (`adopt`).
                if self.guest != GuestState::Off {
                    let disk = self.disks.iter_mut().find(|d| d.name == overlay.disk).expect("it was found");
                    disk.top.clone_from(&overlay.file);
                }
            }
        }
        Ok(())
    }

    /// All or none.
    pub(super) fn transaction(&mut self, actions: &[SnapshotAction], now: u64) -> Result<(), PortError> {
        if self.released {
            return refuse(PortErrorKind::Refused, "the process has let go of its disks");
        }
        let mut after = self.clone();
        for action in actions {
            after.act(action, now)?;
        }
        *self = after;
        Ok(())
    }
}

#[async_trait]
impl Disks for FakeBackend {
    async fn inventory(&self) -> Result<Inventory, PortError> {
        self.faults().port("disks.inventory", || {
            let mut state = self.state();
            let mut disks = Vec::new();
            for disk in state.disks.clone() {
                let off = state.guest == GuestState::Off;
                if disk.top == STAND_IN {
                    let why = || Can::no("its process was made to close it");
                    disks.push(Disk {
                        internal: why(),
                        external: why(),
                        revert: why(),
                        swap: Can::Yes,
                        ..Disk::new(disk.name, disk.top, ImageFormat::Raw, 1 << 20)
                    });
                    continue;
                }
                let image = state.file(&disk.top)?;
                if off && image.in_use {
                    return refuse(
                        PortErrorKind::Busy,
                        format!("Could not open '{}': Failed to get shared \"write\" lock", disk.top),
                    );
                }
                let qcow2 = image.format == ImageFormat::Qcow2;
                disks.push(Disk {
                    read_only: disk.read_only,
                    removable: disk.removable,
                    internal: Can::unless((!qcow2).then_some("its format is raw")),
                    identity: Some(image.identity()),
                    swap: Can::unless(off.then_some("no process has it open")),
                    bitmaps: image.bitmaps.clone(),
                    snapshots: image.snapshots.iter().map(|kept| kept.snapshot.clone()).collect(),
                    ..Disk::new(disk.name, disk.top, image.format.clone(), image.virtual_size)
                });
            }
            if state.named_for_good {
                for disk in &mut disks {
                    disk.adopt = Can::no("its toolstack goes on naming the image");
                    let refuses = state.moves_nothing && state.guest != GuestState::Off;
                    disk.jobs = Can::unless(refuses.then_some("its process moves no data"));
                }
            }
            // What runs it is what would run it after a start.
            let hypervisor = state.abilities.hypervisor.clone();
            Ok(Inventory { disks, hypervisor, ..Inventory::default() })
        })
    }

    async fn snapshot(&self, actions: &[SnapshotAction]) -> Result<(), PortError> {
        let now = self.seconds();
        let faults = self.faults();
        match faults.meet("disks.snapshot") {
            Verdict::Torn(done) => {
                let mut state = self.state();
                state.transaction(&actions[..done.min(actions.len())], now)?;
                state.die();
                Err(PortError::new(PortErrorKind::Unreachable, Effect::Unknown, "the process ended"))
            }
            verdict => faults.by(verdict, "disks.snapshot", || self.state().transaction(actions, now)),
        }
    }

    async fn delete(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.faults().port("disks.delete", || {
            let mut state = self.state();
            let disk = state.find(disk)?;
            let image = state.writable(&disk)?;
            let before = image.snapshots.len();
            image
                .snapshots
                .retain(|kept| !(kept.snapshot.id == snapshot.id && kept.snapshot.name == snapshot.name));
            if image.snapshots.len() == before {
                return refuse(
                    PortErrorKind::NotFound,
                    format!(
                        "Snapshot with id '{}' and name '{}' does not exist on device '{}'",
                        snapshot.id, snapshot.name, disk.name
                    ),
                );
            }
            Ok(())
        })
    }

    async fn revert(&self, disk: &DiskName, snapshot: &SnapshotId) -> Result<(), PortError> {
        self.faults().port("disks.revert", || {
            let mut state = self.state();
            let disk = state.find(disk)?;
            if state.guest != GuestState::Off && !state.released {
                return refuse(
                    PortErrorKind::Busy,
                    format!("Could not open '{}': Failed to get \"write\" lock", disk.top),
                );
            }
            let image = state.writable(&disk)?;
            if image.bitmaps.iter().any(|bitmap| bitmap.persistent) {
                return refuse(
                    PortErrorKind::Failed,
                    "Could not apply snapshot: Device has active dirty bitmaps",
                );
            }
            let found = image
                .snapshots
                .iter()
                .find(|k| k.snapshot.id == snapshot.id && k.snapshot.name == snapshot.name);
            let Some(kept) = found.cloned() else {
                return refuse(
                    PortErrorKind::NotFound,
                    format!("Could not apply snapshot '{}': Failed to load snapshot", snapshot.id),
                );
            };
            image.content = kept.content;
            image.virtual_size = kept.virtual_size;
            Ok(())
        })
    }

    async fn drop_bitmap(&self, disk: &DiskName, bitmap: &Bitmap) -> Result<(), PortError> {
        self.faults().port("disks.drop_bitmap", || {
            let mut state = self.state();
            let disk = state.find(disk)?;
            state.writable(&disk)?.bitmaps.retain(|there| there != bitmap);
            Ok(())
        })
    }
}

#[async_trait]
impl Overlays for FakeBackend {
    async fn exists(&self, file: &str) -> Result<bool, PortError> {
        self.faults().port("overlays.exists", || Ok(self.state().files.contains_key(file)))
    }

    async fn beside(&self, files: &[String]) -> Result<Vec<(String, String)>, PortError> {
        self.faults().port("overlays.beside", || {
            let state = self.state();
            let others = state.files.iter().filter(|(file, _)| !files.contains(file));
            let on_one = others.filter_map(|(file, image)| {
                let base = image.base.clone().filter(|base| files.contains(base))?;
                Some((file.clone(), base))
            });
            Ok(on_one.collect())
        })
    }

    async fn place(&self, _base: &str, _file: &str) -> Result<Can, PortError> {
        self.faults().port("overlays.place", || Ok(Can::Yes))
    }

    async fn make(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.faults().port("overlays.make", || {
            let mut state = self.state();
            if state.files.contains_key(&overlay.file) {
                return refuse(PortErrorKind::AlreadyExists, format!("'{}': File exists", overlay.file));
            }
            state.file(&overlay.base)?;
            let image = Image {
                virtual_size: overlay.virtual_size,
                content: None,
                base: Some(overlay.base.clone()),
                ..Image::new(overlay.format.clone())
            };
            state.files.insert(overlay.file.clone(), image);
            Ok(())
        })
    }

    async fn discard(&self, overlay: &Overlay) -> Result<(), PortError> {
        self.faults().port("overlays.discard", || {
            let mut state = self.state();
            if state.disks.iter().any(|disk| disk.top == overlay.file || disk.described == overlay.file) {
                return refuse(PortErrorKind::Busy, format!("{} takes a disk's writes", overlay.file));
            }
            state.files.remove(&overlay.file);
            Ok(())
        })
    }

    async fn described(&self) -> Result<Vec<(DiskName, ImageFile)>, PortError> {
        self.faults().port("overlays.described", || {
            let state = self.state();
            let format = |file: &String| state.files.get(file).map(|image| image.format.clone());
            let with_image = state.disks.iter().filter(|disk| !disk.described.is_empty());
            let images = with_image.map(|disk| {
                let file = disk.described.clone();
                let format = format(&file).unwrap_or(ImageFormat::Qcow2);
                (disk.name.clone(), ImageFile { file, format })
            });
            Ok(images.collect())
        })
    }

    async fn adopt(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        self.faults().port("overlays.adopt", || {
            let mut state = self.state();
            for (disk, image) in images {
                if state.find(disk)?.described != image.file && state.named_for_good {
                    return refuse(PortErrorKind::Refused, "its toolstack goes on naming the image");
                }
            }
            let off = state.guest == GuestState::Off;
            for (name, image) in images {
                let disk = state.disks.iter_mut().find(|disk| disk.name == *name).expect("it was found");
                disk.described.clone_from(&image.file);
                if off {
                    disk.top.clone_from(&image.file);
                }
            }
            Ok(())
        })
    }
}
