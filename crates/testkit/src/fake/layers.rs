//! The layers of chains.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Below, Can, CopyOut, FileIdentity, GuestState, Layer, LayerFile, LayerSnapshot, Layers, Merge, PortError,
    PortErrorKind, Progress, Stream,
};
use xlsnap_types::model::{DiskName, Stamp};

use super::backend::{State, paused, refuse};
use super::faults::Verdict;
use super::{FakeBackend, Image, Kept};

impl State {
    /// Of a domain whose process moves no data: refuses what that has open.
    fn refuse_job<const N: usize>(&self, files: [&String; N]) -> Result<(), PortError> {
        if !self.moves_nothing || self.guest == GuestState::Off {
            return Ok(());
        }
        let base = |file: &String| self.files.get(file)?.base.clone();
        for disk in &self.disks {
            let chain = std::iter::successors(Some(disk.top.clone()), base);
            if chain.into_iter().any(|file| files.contains(&&file)) {
                return refuse(PortErrorKind::Busy, "the process has it open");
            }
        }
        Ok(())
    }

    /// The file, if it is the one that was planned.
    fn layer(&self, layer: &LayerFile) -> Result<Option<&Image>, PortError> {
        let Some(image) = self.files.get(&layer.file) else { return Ok(None) };
        if layer.identity.is_some_and(|identity| identity != image.identity()) {
            return refuse(PortErrorKind::Refused, format!("{} is another file now", layer.file));
        }
        Ok(Some(image))
    }

    fn merge(&mut self, merge: &Merge) -> Result<(), PortError> {
        let Merge { from, into, .. } = merge;
        let is_image = |file: &str| {
            self.disks
                .iter()
                .any(|disk| disk.top == file || (disk.described == file && self.guest == GuestState::Off))
        };
        if is_image(&into.file) {
            return Ok(());
        }
        let active = self.guest != GuestState::Off && self.disks.iter().any(|disk| disk.top == from.file);
        let Some(above) = self.layer(from)?.cloned() else { return Ok(()) };
        if self.layer(into)?.is_none() || above.base.as_deref() != Some(&into.file) {
            return refuse(PortErrorKind::Refused, format!("{} does not stand on {}", from.file, into.file));
        }
        if !above.snapshots.is_empty() {
            return refuse(PortErrorKind::Refused, format!("{} holds snapshots", from.file));
        }
        let others = self
            .files
            .iter()
            .filter(|(file, image)| **file != from.file && image.base.as_deref() == Some(&into.file));
        // One that is done again, after the header of what stood on `from` was written, changes nothing.
        assert!(
            others.count() == 0 || self.content(&from.file) == self.content(&into.file),
            "a merge into {} changes what another child reads",
            into.file
        );
        let below = self.files.get_mut(&into.file).expect("it was found");
        below.virtual_size = above.virtual_size;
        if above.content.is_some() {
            below.content = above.content;
        }
        below.modified += 1;
        if active {
            if self.guest == super::backend::running() {
                self.guest = paused();
            }
            for disk in self.disks.iter_mut().filter(|disk| disk.top == from.file) {
                disk.top.clone_from(&into.file);
            }
        }
        Ok(())
    }

    fn stream(&mut self, stream: &Stream) -> Result<(), PortError> {
        let Stream { into, was, below, .. } = stream;
        let Some(image) = self.layer(into)? else {
            return refuse(PortErrorKind::NotFound, format!("{} is not there", into.file));
        };
        if image.base.as_deref() != Some(&was.file) {
            return Ok(());
        }
        if !image.snapshots.is_empty() {
            return refuse(PortErrorKind::Refused, format!("{} holds snapshots", into.file));
        }
        let below = below.as_ref().map(|below| below.file.clone());
        let chain = self.chain(&into.file);
        assert!(below.as_ref().is_none_or(|below| chain.contains(below)), "{below:?} is not below {chain:?}");
        let copied = chain.iter().take_while(|file| Some(*file) != below.as_ref());
        let content = copied.filter_map(|file| self.files.get(file)?.content).next();
        let image = self.files.get_mut(&into.file).expect("it was found");
        image.content = content;
        image.base = below;
        image.modified += 1;
        Ok(())
    }

    fn reheader(&mut self, child: &LayerFile, base: &LayerFile) -> Result<(), PortError> {
        if self.layer(child)?.is_none() || self.layer(base)?.is_none() {
            return refuse(PortErrorKind::NotFound, format!("{} or {} is not there", child.file, base.file));
        }
        let image = self.files.get_mut(&child.file).expect("it was found");
        if image.base.as_deref() != Some(&base.file) {
            image.base = Some(base.file.clone());
            image.modified += 1;
        }
        Ok(())
    }

    fn unlink(&mut self, layer: &LayerFile) -> Result<(), PortError> {
        if self.layer(layer)?.is_none() {
            return Ok(());
        }
        if self.disks.iter().any(|disk| disk.top == layer.file || disk.described == layer.file) {
            return refuse(PortErrorKind::Busy, format!("{} takes a disk's writes", layer.file));
        }
        let on_it = self.files.values().any(|image| image.base.as_deref() == Some(&layer.file));
        assert!(!on_it, "{} is unlinked, and a layer stands on it", layer.file);
        self.files.remove(&layer.file);
        Ok(())
    }

    fn copy_out(&mut self, copy: &CopyOut) -> Result<(), PortError> {
        let Some(image) = self.layer(&copy.from)? else {
            return refuse(PortErrorKind::NotFound, format!("{} is not there", copy.from.file));
        };
        if self.files.contains_key(&copy.to.file) {
            return refuse(PortErrorKind::AlreadyExists, format!("'{}': File exists", copy.to.file));
        }
        let is_it =
            |kept: &&Kept| kept.snapshot.id == copy.snapshot.id && kept.snapshot.name == copy.snapshot.name;
        let Some(kept) = image.snapshots.iter().find(is_it).cloned() else {
            return refuse(PortErrorKind::NotFound, format!("{} holds no such snapshot", copy.from.file));
        };
        if copy.whole.is_some() {
            let whole = Image { inode: Image::new(image.format.clone()).inode, ..image.clone() };
            self.files.insert(copy.to.file.clone(), whole);
            return Ok(());
        }
        let content = kept.content.or_else(|| image.base.as_deref().map(|base| self.content(base)));
        let new = Image { virtual_size: kept.virtual_size, content, ..Image::new(copy.to.format.clone()) };
        self.files.insert(copy.to.file.clone(), new);
        Ok(())
    }

    fn delete_inside(&mut self, target: &LayerSnapshot) -> Result<(), PortError> {
        let LayerSnapshot { layer, snapshot } = target;
        if self.layer(layer)?.is_none() {
            return Ok(());
        }
        if self.guest != GuestState::Off && !self.released {
            let tops: Vec<&str> = self.disks.iter().map(|disk| disk.top.as_str()).collect();
            let mut read = tops.into_iter();
            if read.any(|top| self.chain(top).contains(&layer.file)) {
                return refuse(
                    PortErrorKind::Busy,
                    format!("'{}': Failed to get \"write\" lock", layer.file),
                );
            }
        }
        let image = self.files.get_mut(&layer.file).expect("it was found");
        let before = image.snapshots.len();
        image
            .snapshots
            .retain(|kept| !(kept.snapshot.id == snapshot.id && kept.snapshot.name == snapshot.name));
        image.modified += u64::from(image.snapshots.len() < before);
        Ok(())
    }

    /// A file and those below it.
    fn chain(&self, top: &str) -> Vec<String> {
        let below = |file: &String| self.files.get(file)?.base.clone();
        std::iter::successors(Some(top.to_owned()), below).collect()
    }

    fn swap(&mut self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError> {
        if self.disks.iter().any(|found| found.name == *disk && found.top == to.file) {
            return Ok(());
        }
        if self.guest == super::backend::running() || self.guest == GuestState::Off {
            return refuse(PortErrorKind::Refused, "the guest does not stand still");
        }
        if self.layer(to)?.is_none() {
            return refuse(PortErrorKind::NotFound, format!("{} is not there", to.file));
        }
        let found = self.disks.iter_mut().find(|found| found.name == *disk);
        found.expect("a test swaps a disk that is there").top.clone_from(&to.file);
        Ok(())
    }
}

impl FakeBackend {
    /// Lets go of the state before the process dies of a fault.
    pub(super) fn layers<T>(
        &self,
        method: &'static str,
        act: impl FnOnce(&mut State) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        match self.faults().meet(method) {
            // The process that has the disks dies before it did anything.
            Verdict::Torn(_) => {
                self.state().die();
                self.faults().by(Verdict::LostBefore, method, || act(&mut self.state()))
            }
            verdict => self.faults().by(verdict, method, || act(&mut self.state())),
        }
    }
}

#[async_trait]
impl Layers for FakeBackend {
    async fn look(&self, layer: &LayerFile) -> Result<Option<Layer>, PortError> {
        self.layers("layers.look", |state| {
            let Some(image) = state.files.get(&layer.file) else { return Ok(None) };
            let base = match &image.base {
                None => Below::Nothing,
                Some(file) => Below::File {
                    file: file.clone(),
                    format: state.files.get(file).map(|below| below.format.clone()),
                },
            };
            Ok(Some(Layer {
                file: layer.file.clone(),
                identity: image.identity(),
                format: image.format.clone(),
                virtual_size: image.virtual_size,
                bytes: if image.content.is_some() { image.virtual_size } else { 0 },
                stamp: Some(Stamp { length: image.virtual_size, modified: image.modified }),
                snapshots: image.snapshots.iter().map(|kept| kept.snapshot.clone()).collect(),
                base,
                in_use: image.in_use,
                encrypted: false,
            }))
        })
    }

    async fn room(&self, _file: &str) -> Result<u64, PortError> {
        self.layers("layers.room", |state| Ok(state.room))
    }

    async fn merge(&self, merge: &Merge, _progress: &dyn Progress) -> Result<(), PortError> {
        self.layers("layers.merge", |state| {
            state.refuse_job([&merge.from.file, &merge.into.file])?;
            state.merge(merge)
        })
    }

    async fn park(&self, _merge: &Merge) -> Result<bool, PortError> {
        self.layers("layers.park", |_| Ok(false))
    }

    async fn stream(&self, stream: &Stream, _progress: &dyn Progress) -> Result<(), PortError> {
        self.layers("layers.stream", |state| {
            state.refuse_job([&stream.into.file, &stream.was.file])?;
            state.stream(stream)
        })
    }

    async fn limits(&self, _stream: &Stream) -> Result<Can, PortError> {
        self.layers("layers.limits", |state| {
            Ok(Can::unless((state.guest == GuestState::Off).then_some("nothing limits it while it is off")))
        })
    }

    async fn park_stream(&self, stream: &Stream) -> Result<bool, PortError> {
        self.layers("layers.park_stream", |state| {
            let image = state.files.get(&stream.into.file);
            Ok(image.is_some_and(|image| image.base.as_deref() != Some(&stream.was.file)))
        })
    }

    async fn copy_out(&self, copy: &CopyOut, _progress: &dyn Progress) -> Result<(), PortError> {
        self.layers("layers.copy_out", |state| state.copy_out(copy))
    }

    async fn delete_inside(&self, target: &LayerSnapshot) -> Result<(), PortError> {
        self.layers("layers.delete_inside", |state| state.delete_inside(target))
    }

    async fn reheader(&self, child: &LayerFile, base: &LayerFile) -> Result<(), PortError> {
        self.layers("layers.reheader", |state| state.reheader(child, base))
    }

    async fn unlink(&self, layer: &LayerFile) -> Result<(), PortError> {
        self.layers("layers.unlink", |state| state.unlink(layer))
    }

    async fn swap(&self, disk: &DiskName, to: &LayerFile) -> Result<(), PortError> {
        self.layers("layers.swap", |state| state.swap(disk, to))
    }
}

impl Image {
    /// Which file it is.
    pub(super) fn identity(&self) -> FileIdentity {
        FileIdentity { device: 1, inode: self.inode }
    }
}
