//! A host: the directory of records and domain files, and how programs and sockets are reached.

use std::path::PathBuf;
use std::time::Duration;

use xlsnap_conf_store::{FsStore, RootInputs};
use xlsnap_orchestrator::Error;

use crate::XenOptions;
use crate::clock::SystemClock;
use crate::domain::DomainFiles;
use crate::failures::from_store;

/// Where a host keeps its things, and how patient it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The directory of records (`<uuid>/`) and domain files (`domains/`). It is made by the first operation that writes.
    pub root: PathBuf,
    /// The qemu-img program: a path, or a name to be found in `PATH`. `qemu-img` by default.
    pub qemu_img: PathBuf,
    /// How long to wait for a domain that another process is working on. 5 s by default.
    pub lock_wait: Duration,
    /// How long a monitor has for its greeting; one that another client holds never greets. 3 s by default.
    pub greeting_wait: Duration,
    /// Where Xen's things are, if this is a Xen host.
    pub xen: XenOptions,
}

impl Options {
    /// The defaults, at `root`. An embedder decides itself where that is; [`default_root`] has the command line's rule.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            qemu_img: PathBuf::from("qemu-img"),
            lock_wait: Duration::from_secs(5),
            greeting_wait: Duration::from_secs(3),
            xen: XenOptions::default(),
        }
    }
}

/// A host whose domains' snapshots are managed. See the crate's documentation for its operations.
pub struct Host {
    pub(crate) options: Options,
    pub(crate) store: FsStore,
    pub(crate) files: DomainFiles,
    pub(crate) clock: SystemClock,
}

impl Host {
    /// The host at `options.root`. Nothing is opened or made yet, and a root that is not there is an empty one.
    pub fn new(options: Options) -> Self {
        let store = FsStore::new(&options.root);
        let files = DomainFiles::new(&options.root);
        Self { store, files, clock: SystemClock::new(), options }
    }
}

/// Where the command line keeps things, given all that decides on it; nothing is looked up here.
///
/// # Errors
/// When nothing tells: see [`FsStore::default_root`].
pub fn default_root(inputs: &RootInputs) -> Result<PathBuf, Error> {
    FsStore::default_root(inputs).map_err(|e| from_store(e, "there is no place for records"))
}
