//! `domains/<name>.run`: which process was started for a domain.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xlsnap_conf_store as store;
use xlsnap_conf_store::durable::Dir;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qemu::process::{Run, RunRecord};
use xlsnap_types::model::DomainName;

/// The version that is written, and the newest that is read.
const FORMAT_VERSION: u32 = 1;

const MAX_BYTES: usize = 4096;

/// The run file of one domain.
#[derive(Debug)]
pub(crate) struct RunFile {
    directory: PathBuf,
    domain: DomainName,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format_version: u32,
    #[serde(flatten)]
    run: Run,
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
    fn load(&self) -> Result<Option<Run>, PortError> {
        let text = match Dir::open(&self.directory).and_then(|dir| dir.read(&self.name(), MAX_BYTES)) {
            Ok(text) => text,
            Err(e) if e.kind() == store::Kind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed("read", e)),
        };
        let not_understood = |e: serde_json::Error| self.refused("is not understood").with_source(e);
        let version: Version = serde_json::from_slice(&text).map_err(not_understood)?;
        if version.format_version > FORMAT_VERSION {
            return Err(self.refused("was written by a newer version"));
        }
        let written: Written = serde_json::from_slice(&text).map_err(not_understood)?;
        Ok(Some(written.run))
    }

    fn store(&self, run: &Run) -> Result<(), PortError> {
        let written = Written { format_version: FORMAT_VERSION, run: *run };
        let mut text = serde_json::to_vec(&written).expect("numbers and a uuid are JSON");
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
