//! `domains/<name>.run`: which process was started for a domain.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xlsnap_conf_store as store;
use xlsnap_conf_store::durable::Dir;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qemu::process::{RunRecord, Written};
use xlsnap_types::model::DomainName;

/// The version of a file with a process, and of one with a start that was begun. Newer ones are not read.
const STARTED_VERSION: u32 = 1;
const BEGUN_VERSION: u32 = 2;

const MAX_BYTES: usize = 4096;

/// The run file of one domain.
#[derive(Debug)]
pub(crate) struct RunFile {
    directory: PathBuf,
    domain: DomainName,
}

#[derive(Serialize, Deserialize)]
struct Content {
    format_version: u32,
    #[serde(flatten)]
    written: Written,
}

/// What a newer version's file has for sure.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl RunFile {
    pub(crate) fn new(directory: PathBuf, domain: DomainName) -> Self {
        Self { directory, domain }
    }

    fn name(&self) -> String {
        format!("{}.run", self.domain)
    }

    fn refused(&self, why: &str) -> PortError {
        let path = self.directory.join(self.name());
        let message = format!(
            "which process domain {} has cannot be known: {} {why}; if it is off for sure, remove that file",
            self.domain,
            path.display()
        );
        PortError::new(PortErrorKind::Refused, Effect::None, message)
    }

    fn failed(&self, what: &str, e: store::Error) -> PortError {
        let kind = match e.kind() {
            store::Kind::NoSpace => PortErrorKind::NoSpace,
            _ => PortErrorKind::Failed,
        };
        let message = format!("the run file of domain {} cannot be {what}", self.domain);
        PortError::new(kind, Effect::None, message).with_source(e)
    }
}

impl RunRecord for RunFile {
    fn load(&self) -> Result<Option<Written>, PortError> {
        let text = match Dir::open(&self.directory).and_then(|dir| dir.read(&self.name(), MAX_BYTES)) {
            Ok(text) => text,
            Err(e) if e.kind() == store::Kind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed("read", e)),
        };
        let not_understood = |e: serde_json::Error| self.refused("is not understood").with_source(e);
        let version: Version = serde_json::from_slice(&text).map_err(not_understood)?;
        if version.format_version > BEGUN_VERSION {
            return Err(self.refused("was written by a newer version"));
        }
        let content: Content = serde_json::from_slice(&text).map_err(not_understood)?;
        Ok(Some(content.written))
    }

    fn store(&self, written: &Written) -> Result<(), PortError> {
        let format_version = match written {
            Written::Started(_) => STARTED_VERSION,
            Written::Begun(_) => BEGUN_VERSION,
        };
        let content = Content { format_version, written: *written };
        let mut text = serde_json::to_vec(&content).expect("numbers and a uuid are JSON");
        text.push(b'\n');
        Dir::create(&self.directory)
            .and_then(|dir| dir.replace(&self.name(), &text))
            .map_err(|e| self.failed("written", e))
    }

    fn clear(&self) -> Result<(), PortError> {
        match Dir::open(&self.directory).and_then(|dir| dir.remove(&self.name())) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == store::Kind::NotFound => Ok(()),
            Err(e) => Err(self.failed("removed", e)),
        }
    }
}
