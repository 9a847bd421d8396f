//! How QEMU's migration is set up for a save, and put back after.
//!
//! What it was is written to a file before it is changed: another program puts it back when this one does not come to it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qmp_transport::commands::{
    MigrateSetCapabilities, MigrateSetParameters, MigrationCapability, MigrationParameters,
    QueryMigrateCapabilities, QueryMigrateParameters,
};
use xlsnap_qmp_transport::{Command, Qmp, QmpExt};
use xlsnap_types::model::MemoryWay;

use crate::error;

pub(super) const BACKGROUND: &str = "background-snapshot";
pub(super) const SWITCHOVER: &str = "pause-before-switchover";

/// What does nothing to the stream.
const HARMLESS: &str = "events";

/// More than any disk takes: QEMU's default of 128 MiB/s holds a stopped guest up, too.
const UNLIMITED: u64 = 1 << 40;

/// A file of more bytes is not what was written.
const MAX_FILE: u64 = 64 << 10;

/// What was changed, as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    capabilities: Vec<MigrationCapability>,
    parameters: MigrationParameters,
}

/// The capability that a way needs.
pub(super) fn capability_of(way: MemoryWay) -> Option<&'static str> {
    match way {
        MemoryWay::Background => Some(BACKGROUND),
        MemoryWay::Switchover => Some(SWITCHOVER),
        _ => None,
    }
}

/// What has to change for `way`, and what that was: everything off that makes another stream or is in the way.
pub(super) fn changes(
    now: &[MigrationCapability],
    way: MemoryWay,
) -> (Vec<MigrationCapability>, Vec<MigrationCapability>) {
    let wanted = |name: &str| name == HARMLESS || capability_of(way) == Some(name);
    let wrong = |c: &&MigrationCapability| match c.capability.as_str() {
        HARMLESS => false,
        name => c.state != wanted(name),
    };
    let before: Vec<MigrationCapability> = now.iter().filter(wrong).cloned().collect();
    let after = before.iter().map(|c| MigrationCapability { state: !c.state, ..c.clone() }).collect();
    (after, before)
}

/// What has to change of the parameters: no bound on how fast the memory is sent, and no encryption.
fn for_a_save(now: &MigrationParameters) -> MigrationParameters {
    MigrationParameters {
        max_bandwidth: now.max_bandwidth.map(|_| UNLIMITED),
        tls_creds: now.tls_creds.as_ref().filter(|id| !id.is_empty()).map(|_| String::new()),
    }
}

impl Settings {
    /// Sets QEMU up for `way`; what was changed is written to `file` before.
    ///
    /// # Cancel safety
    /// Dropped, it may have set up everything, a part or nothing; [`Settings::load`] tells how to put it back.
    pub(super) async fn apply(qmp: &dyn Qmp, way: MemoryWay, file: &Path) -> Result<Self, PortError> {
        let unknown = |e| error::of_query("QEMU could not be asked how its migration is set up".into(), e);
        let now = qmp.execute(QueryMigrateCapabilities).await.map_err(unknown)?;
        let parameters = qmp.execute(QueryMigrateParameters).await.map_err(unknown)?;
        let (after, capabilities) = changes(&now, way);
        let for_us = for_a_save(&parameters);
        let tls_creds = parameters.tls_creds.filter(|id| !id.is_empty());
        let settings = Self { capabilities, parameters: MigrationParameters { tls_creds, ..parameters } };
        settings.store(file).map_err(|e| super::socket::not_made(file, e))?;
        set(qmp, after, for_us).await?;
        Ok(settings)
    }

    /// Makes it as it was.
    ///
    /// # Cancel safety
    /// Dropped, it may be done, half done or not.
    pub(super) async fn put_back(&self, qmp: &dyn Qmp) -> Result<(), PortError> {
        set(qmp, self.capabilities.clone(), self.parameters.clone()).await
    }

    /// The commands that set this up.
    pub(super) fn commands(&self) -> Vec<&'static str> {
        let capabilities = (!self.capabilities.is_empty()).then_some(MigrateSetCapabilities::NAME);
        let as_it_is = MigrationParameters::default();
        let parameters = (self.parameters != as_it_is).then_some(MigrateSetParameters::NAME);
        capabilities.into_iter().chain(parameters).collect()
    }

    /// What another program wrote down before it changed it; `None` when it did not come to that.
    pub(super) fn load(file: &Path) -> Result<Option<Self>, PortError> {
        let text = match std::fs::read(file) {
            Ok(text) if text.len() as u64 <= MAX_FILE => text,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let file = file.display();
                let message = format!(
                    "how QEMU's migration was set up cannot be read from {file}; where that stays so, give it up: rm '{file}'"
                );
                return Err(PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(error));
            }
        };
        // What is no JSON was cut off while it was written, before anything was changed.
        Ok(serde_json::from_slice(&text).ok())
    }

    fn store(&self, file: &Path) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(file)?;
        io::Write::write_all(&mut file, &text)
    }
}

async fn set(
    qmp: &dyn Qmp,
    capabilities: Vec<MigrationCapability>,
    parameters: MigrationParameters,
) -> Result<(), PortError> {
    let failed = |e| error::of_qmp("QEMU's migration could not be set up".into(), e);
    if !capabilities.is_empty() {
        qmp.execute(MigrateSetCapabilities { capabilities }).await.map_err(failed)?;
    }
    if parameters != MigrationParameters::default() {
        qmp.execute(MigrateSetParameters(parameters)).await.map_err(failed)?;
    }
    Ok(())
}

/// The commands that set QEMU up for `way`, and put it back: none for what is as it has to be.
pub(crate) async fn commands(qmp: &dyn Qmp, way: MemoryWay) -> Result<Vec<&'static str>, PortError> {
    let unknown = |e| error::of_query("QEMU could not be asked how its migration is set up".into(), e);
    let now = qmp.execute(QueryMigrateCapabilities).await.map_err(unknown)?;
    let parameters = qmp.execute(QueryMigrateParameters).await.map_err(unknown)?;
    let (capabilities, _) = changes(&now, way);
    let parameters = for_a_save(&parameters);
    Ok(Settings { capabilities, parameters }.commands())
}

/// The file for the settings that a save of this token has changed.
pub(super) fn file_of(directory: &Path, token: &str) -> PathBuf {
    directory.join(format!("{token}.was"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_else_is_off_and_comes_back() {
        let c = |capability: &str, state| MigrationCapability { capability: capability.into(), state };
        let now = [
            c("events", false),
            c("multifd", true),
            c(BACKGROUND, false),
            c(SWITCHOVER, true),
            c("xbzrle", false),
        ];
        let check = |way, after: &[MigrationCapability]| {
            let (set, before) = changes(&now, way);
            assert_eq!(set, after, "{way:?}");
            assert!(before.iter().all(|c| now.contains(c)) && before.len() == set.len());
        };
        check(MemoryWay::Background, &[c("multifd", false), c(BACKGROUND, true), c(SWITCHOVER, false)]);
        check(MemoryWay::Switchover, &[c("multifd", false)]);
        check(MemoryWay::Stopped, &[c("multifd", false), c(SWITCHOVER, false)]);
        let on = [c("events", true), c(BACKGROUND, false)];
        assert_eq!(changes(&on, MemoryWay::Stopped), (Vec::new(), Vec::new()));
    }

    /// Among what is never asked for: `mapped-ram` in the background, which QEMU calls completed and cannot restore, and `multifd` to a
    /// file, which with `direct-io` and one descriptor ends QEMU (10.0 and 11.1).
    #[test]
    fn nothing_is_turned_on_but_what_the_way_needs() {
        let names =
            ["xbzrle", "multifd", "mapped-ram", "events", "postcopy-ram", BACKGROUND, SWITCHOVER, "new"];
        for way in [MemoryWay::Background, MemoryWay::Switchover, MemoryWay::Stopped] {
            for state in [true, false] {
                let now = names.map(|name| MigrationCapability { capability: name.into(), state });
                let (after, _) = changes(&now, way);
                let on = after.iter().filter(|c| c.state).map(|c| c.capability.as_str());
                let needed = capability_of(way).filter(|_| !state);
                assert_eq!(on.collect::<Vec<_>>(), needed.into_iter().collect::<Vec<_>>(), "{way:?}");
                let off = names.iter().filter(|name| **name != HARMLESS && capability_of(way) != Some(name));
                assert!(!state || off.count() == after.len(), "{way:?}: {after:?}");
            }
        }
        let set = for_a_save(&MigrationParameters { max_bandwidth: Some(7), tls_creds: None });
        let keys = serde_json::to_value(set).unwrap();
        assert_eq!(keys.as_object().unwrap().keys().collect::<Vec<_>>(), ["max-bandwidth"]);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(directory.path(), "t");
        assert_eq!(Settings::load(&file).unwrap(), None);
        let capability = MigrationCapability { capability: "multifd".into(), state: true };
        let parameters = MigrationParameters { max_bandwidth: Some(7), tls_creds: None };
        let settings = Settings { capabilities: vec![capability], parameters };
        settings.store(&file).unwrap();
        assert_eq!(Settings::load(&file).unwrap(), Some(settings.clone()));
        settings.store(&file).unwrap_err();
        std::fs::write(&file, "{\"capabil").unwrap();
        assert_eq!(Settings::load(&file).unwrap(), None);
        Settings::load(directory.path()).unwrap_err();
    }
}
