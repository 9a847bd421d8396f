//! Files that get other names, with QEMU's rule: what a process has open keeps its name.

use async_trait::async_trait;
use xlsnap_orchestrator::{
    Can, FileIdentity, GuestState, LayerFile, NameSwap, Names, PortError, PortErrorKind,
};
use xlsnap_types::model::DiskName;

use super::FakeBackend;
use super::backend::{STAND_IN, State, refuse, running};

impl State {
    /// Whether the process has the file open.
    fn is_open(&self, file: &str) -> bool {
        let chain = |top: &str| {
            let mut chain = vec![top.to_owned()];
            while let Some(base) = self.files.get(chain.last()?).and_then(|image| image.base.clone()) {
                chain.push(base);
            }
            Some(chain)
        };
        self.guest != GuestState::Off
            && self
                .disks
                .iter()
                .filter_map(|disk| chain(&disk.top))
                .any(|chain| chain.iter().any(|at| at == file))
    }

    fn identity(&self, file: &str) -> Option<FileIdentity> {
        self.files.get(file).map(super::Image::identity)
    }

    /// Exchanges the names, unless the file with `identity` has the name `to` already.
    fn exchange(&mut self, names: &NameSwap, (from, to): (&str, &str)) -> Result<(), PortError> {
        let identity = names.old.identity;
        if self.identity(to) == identity {
            return Ok(());
        }
        if self.identity(from) != identity || self.identity(to).is_none() {
            return refuse(PortErrorKind::Refused, format!("{from} or {to} is another file now"));
        }
        if let Some(open) = [from, to].into_iter().find(|file| self.is_open(file)) {
            return refuse(PortErrorKind::Busy, format!("a process has {open} open"));
        }
        let (Some(old), Some(mut new)) = (self.files.remove(from), self.files.remove(to)) else {
            unreachable!("both were found")
        };
        if names.stands_on_old {
            assert_eq!(new.base.as_deref(), Some(from), "the header of the new file");
            new.base = Some(to.to_owned());
            new.modified += 1;
        }
        self.files.insert(to.to_owned(), old);
        self.files.insert(from.to_owned(), new);
        for (file, image) in &self.files {
            assert_ne!(image.base.as_ref(), Some(file), "{file} is its own base");
            let stands = image.base.as_deref();
            assert!(stands != Some(from), "{file} stood on {from}, which is another file now");
        }
        Ok(())
    }

    fn rename(&mut self, file: &LayerFile, over: &LayerFile) -> Result<(), PortError> {
        if self.identity(&over.file) == file.identity {
            return Ok(());
        }
        if self.identity(&file.file) != file.identity || self.identity(&over.file) != over.identity {
            return refuse(
                PortErrorKind::Refused,
                format!("{} or {} is another file now", file.file, over.file),
            );
        }
        if let Some(open) = [&file.file, &over.file].into_iter().find(|file| self.is_open(file)) {
            return refuse(PortErrorKind::Busy, format!("a process has {open} open"));
        }
        assert_eq!(self.content(&file.file), self.content(&over.file), "what is gone was not merged");
        let image = self.files.remove(&file.file).expect("it was found");
        self.files.insert(over.file.clone(), image);
        for (on, image) in &self.files {
            let base = image.base.as_ref();
            assert!(
                base != Some(&file.file) && base != Some(&over.file),
                "{on} stood on a file that is renamed"
            );
        }
        Ok(())
    }

    fn detach(&mut self, disk: &DiskName) -> Result<(), PortError> {
        if self.guest == running() || !self.guest.is_on() {
            return refuse(PortErrorKind::Refused, "the guest does not stand still");
        }
        let found = self.disks.iter_mut().find(|found| found.name == *disk);
        STAND_IN.clone_into(&mut found.expect("a test detaches a disk that is there").top);
        Ok(())
    }
}

#[async_trait]
impl Names for FakeBackend {
    async fn movable(&self, file: &str) -> Result<Can, PortError> {
        self.faults().port("names.movable", || {
            Ok(Can::unless((!self.state().files.contains_key(file)).then_some("it is not there")))
        })
    }

    async fn ready_names(&self, names: &NameSwap) -> Result<(), PortError> {
        self.layers("names.ready_names", |state| match state.files.contains_key(&names.new.file) {
            true => Ok(()),
            false => refuse(PortErrorKind::NotFound, format!("{} is not there", names.new.file)),
        })
    }

    async fn swap_names(&self, names: &NameSwap) -> Result<(), PortError> {
        let ends = (names.kept(), names.new.file.as_str());
        self.layers("names.swap_names", |state| state.exchange(names, ends))
    }

    async fn swap_names_back(&self, names: &NameSwap) -> Result<(), PortError> {
        let ends = (names.new.file.as_str(), names.kept());
        self.layers("names.swap_names_back", |state| state.exchange(names, ends))
    }

    async fn rename(&self, file: &LayerFile, over: &LayerFile) -> Result<(), PortError> {
        self.layers("names.rename", |state| state.rename(file, over))
    }

    async fn detach(&self, disk: &DiskName) -> Result<(), PortError> {
        self.layers("names.detach", |state| state.detach(disk))
    }
}
