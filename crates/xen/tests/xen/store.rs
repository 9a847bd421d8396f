//! A xenstore in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::broadcast;
use xlsnap_xenstore::{Effect, Error, Kind, Nodes, Path, Transaction, Watch, Watchpoint, Xenstore};

/// Recorded on Xen 4.17 by `xenstore-ls -f`.
pub(crate) const PV: &str = include_str!("../recorded/pv-xenstore-ls.txt");
pub(crate) const HVM: &str = include_str!("../recorded/hvm-xenstore-ls.txt");

/// A xenstore that holds what it is given. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    nodes: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    vanished: broadcast::Sender<Watchpoint>,
}

impl Store {
    /// One with the entries of a recording.
    pub(crate) fn of(recording: &str) -> Self {
        let nodes = recording.lines().filter_map(|line| line.split_once(" = "));
        let nodes = nodes.map(|(path, value)| (path.to_owned(), value.trim_matches('"').as_bytes().to_vec()));
        Self { nodes: Arc::new(Mutex::new(nodes.collect())), vanished: broadcast::Sender::new(16) }
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.nodes.lock().unwrap().contains_key(path)
    }

    pub(crate) fn set(&self, path: &str, value: impl AsRef<[u8]>) -> &Self {
        let mut nodes = self.nodes.lock().unwrap();
        for (at, _) in path.match_indices('/').skip(1) {
            nodes.entry(path[..at].to_owned()).or_default();
        }
        nodes.insert(path.to_owned(), value.as_ref().to_vec());
        drop(nodes);
        self
    }

    /// Removes a node and all below it.
    pub(crate) fn cut(&self, path: &str) -> &Self {
        let below = format!("{path}/");
        self.nodes.lock().unwrap().retain(|node, _| node != path && !node.starts_with(&below));
        self
    }

    /// Everything that Xen removes when a domain ends.
    pub(crate) fn end(&self, domid: u16) {
        for path in [
            format!("/local/domain/{domid}"),
            format!("/libxl/{domid}"),
            format!("/local/domain/0/backend/qdisk/{domid}"),
        ] {
            self.cut(&path);
        }
        let _ = self.vanished.send(Watchpoint::DomainsVanish);
    }

    /// The same domain with another domid: as after a restore.
    pub(crate) fn again(&self, from: &Self, old: u16, new: u16) {
        let entries: Vec<_> =
            from.nodes.lock().unwrap().iter().map(|(path, value)| (path.clone(), value.clone())).collect();
        let swap = |text: &str| {
            text.replace(&format!("/domain/{old}"), &format!("/domain/{new}"))
                .replace(&format!("/libxl/{old}"), &format!("/libxl/{new}"))
                .replace(&format!("/qdisk/{old}"), &format!("/qdisk/{new}"))
        };
        for (path, value) in entries {
            let value = String::from_utf8(value).unwrap();
            self.set(&swap(&path), swap(&value));
        }
    }
}

#[async_trait]
impl Nodes for Store {
    async fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let found = self.nodes.lock().unwrap().get(path.as_str()).cloned();
        found.ok_or_else(|| Error::refused(&format!("read {path}"), "ENOENT", Effect::None))
    }

    async fn directory(&self, path: &Path) -> Result<Vec<String>, Error> {
        let nodes = self.nodes.lock().unwrap();
        if !nodes.contains_key(path.as_str()) {
            return Err(Error::refused(&format!("list {path}"), "ENOENT", Effect::None));
        }
        let below = format!("{path}/");
        let names = nodes.keys().filter_map(|node| node.strip_prefix(&below));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    async fn write(&self, _path: &Path, _value: &[u8]) -> Result<(), Error> {
        Err(only_read())
    }

    async fn make_directory(&self, _path: &Path) -> Result<(), Error> {
        Err(only_read())
    }

    async fn remove(&self, _path: &Path) -> Result<(), Error> {
        Err(only_read())
    }
}

#[async_trait]
impl Xenstore for Store {
    async fn watch(&self, at: &Watchpoint) -> Result<Watch, Error> {
        Ok(Watch::new(at.clone(), self.vanished.subscribe(), ()))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction + '_>, Error> {
        Err(only_read())
    }

    async fn domain_path(&self, _domid: u16) -> Result<Path, Error> {
        Err(only_read())
    }
}

/// What the crate does to xenstore: nothing.
fn only_read() -> Error {
    Error::new(Kind::Rejected, Effect::None, "nothing is changed here")
}
