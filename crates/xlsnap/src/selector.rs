//! Which domain a caller means.

use std::fmt;
use std::path::PathBuf;

use uuid::Uuid;
use xlsnap_types::model::DomainName;

/// Which domain is meant, and how it is reached if not as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Its name, or its uuid as text.
    pub domain: DomainName,
    /// The QMP socket that it is reached at, absolute: instead of its file's, or without a file at all. Then its disks are read
    /// off the running QEMU.
    pub qmp: Option<PathBuf>,
}

impl Selector {
    /// The domain of this name or uuid.
    pub fn new(domain: DomainName) -> Self {
        Self { domain, qmp: None }
    }

    /// The same, reached at this socket.
    #[must_use]
    pub fn at(mut self, qmp: Option<PathBuf>) -> Self {
        self.qmp = qmp;
        self
    }

    /// The uuid, where the text is one. No domain can have such a name.
    pub(crate) fn uuid(&self) -> Option<Uuid> {
        as_uuid(&self.domain)
    }
}

/// The uuid that a name reads as.
pub(crate) fn as_uuid(name: &DomainName) -> Option<Uuid> {
    Uuid::try_parse(name.as_str()).ok()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.domain, f)
    }
}
