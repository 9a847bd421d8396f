//! Migration: the state of a machine as a stream, out of one QEMU and into another. qemu-storage-daemon has none of this.

use serde::{Deserialize, Serialize};

use super::{Nothing, command};

/// Gives a name to the open file that came beside it ([`crate::QmpExt::execute_with`]), for the next command that takes one (`fd:NAME`).
/// It takes the place of one that has this name already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Getfd {
    /// The name.
    pub fdname: String,
}

/// Puts the open file that came beside it ([`crate::QmpExt::execute_with`]) into a new set, whose name is `/dev/fdset/ID`: what opens that
/// name gets this file, with its position. How it is opened has to be how this one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddFd {
    /// A text to know it by.
    pub opaque: String,
}

/// The result of [`AddFd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct AddedFd {
    /// The set.
    pub fdset_id: i64,
}

/// Closes the files of a set, as soon as nothing has them open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RemoveFd {
    /// The set.
    pub fdset_id: i64,
}

/// Starts to send the machine's state. It answers at once; [`QueryMigrate`] tells how it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migrate {
    /// Where to: `unix:PATH`, to which QEMU connects, `fd:NAME`, ...
    pub uri: String,
}

/// Starts to receive the state of another machine, after `-incoming defer`. It answers at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrateIncoming {
    /// Where from: `unix:PATH`, where QEMU listens, `file:PATH`, ...
    pub uri: String,
    /// Whether QEMU ends when it fails; its default is yes. QEMU 7.2 has no choice, and refuses the argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_on_error: Option<bool>,
}

/// Lets a migration go on that waits at `state` (`pause-before-switchover`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MigrateContinue {
    /// Where it waits.
    pub state: MigrationStatus,
}

/// Cancels the migration, if there is one. It answers at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MigrateCancel;

/// How the last migration goes or went, and what would be in the way of one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryMigrate;

/// The result of [`QueryMigrate`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MigrationInfo {
    /// Where it is; `None` when there was none yet.
    pub status: Option<MigrationStatus>,
    /// How far it is with the memory; `None` before it has begun with it.
    pub ram: Option<MigrationRam>,
    /// Why it failed, when it did.
    pub error_desc: Option<String>,
    /// What would be in the way of a migration now.
    #[serde(default)]
    pub blocked_reasons: Vec<String>,
}

/// How far a migration is with the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MigrationRam {
    /// The memory's size, in bytes.
    #[serde(default)]
    pub total: u64,
    /// How much of it is to be sent still, in bytes.
    #[serde(default)]
    pub remaining: u64,
    /// How many bytes were sent. A stream is longer by what is no memory; QEMU 10.0 counts more than it sends.
    #[serde(default)]
    pub transferred: u64,
    /// How many pages of zeros were sent.
    #[serde(default)]
    pub duplicate: u64,
    /// How many other pages were sent.
    #[serde(default)]
    pub normal: u64,
    /// How often it was looked which pages the guest has written.
    #[serde(default)]
    pub dirty_sync_count: u64,
}

/// Where a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MigrationStatus {
    /// There was none.
    None,
    /// It begins.
    Setup,
    /// It was cancelled, and ends.
    Cancelling,
    /// It was cancelled.
    Cancelled,
    /// It goes on.
    Active,
    /// The other side runs already.
    PostcopyActive,
    /// The same, interrupted.
    PostcopyPaused,
    /// The same, about to go on.
    PostcopyRecover,
    /// The same, a step earlier.
    PostcopyRecoverSetup,
    /// It is done.
    Completed,
    /// It failed.
    Failed,
    /// Two machines in lockstep.
    Colo,
    /// The guest is stopped, and it waits for [`MigrateContinue`].
    PreSwitchover,
    /// The devices' state is sent.
    Device,
    /// It waits until a device is unplugged.
    WaitUnplug,
    /// One that came after QEMU 10.0.
    #[serde(other)]
    Unknown,
}

impl MigrationStatus {
    /// Whether it is over, or never began.
    pub fn is_over(self) -> bool {
        matches!(self, Self::None | Self::Cancelled | Self::Completed | Self::Failed)
    }
}

/// Which capabilities are on.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryMigrateCapabilities;

/// Whether a capability is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct MigrationCapability {
    /// Its name: `background-snapshot`, `pause-before-switchover`, `events`, ...
    pub capability: String,
    /// Whether it is on.
    pub state: bool,
}

/// Turns capabilities on or off: all or none of them. QEMU refuses one that it cannot do here and now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrateSetCapabilities {
    /// Those that are to change.
    pub capabilities: Vec<MigrationCapability>,
}

/// How a migration is set up.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryMigrateParameters;

/// How a migration is set up: of QEMU's many parameters, those that are used. Also the argument that sets them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationParameters {
    /// How many bytes a second it sends at most. It holds while the guest is stopped, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bandwidth: Option<u64>,
    /// The id of the credentials of a stream that is encrypted; empty for one that is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_creds: Option<String>,
}

/// Changes parameters; those that are `None` stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrateSetParameters(pub MigrationParameters);

/// Saves the state of the devices, without the memory, to a file.
///
/// With `live`, of a machine that is stopped, it also makes all block nodes inactive; of 7.2, which has no
/// [`BlockdevSetActive`](super::BlockdevSetActive), nothing else does. A second time aborts QEMU: they are so already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct XenSaveDevicesState {
    /// The file; one that is there is overwritten.
    pub filename: String,
    /// Whether the machine goes elsewhere.
    pub live: bool,
}

/// How much memory the machine has.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryMemorySizeSummary;

/// The result of [`QueryMemorySizeSummary`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MemorySize {
    /// What it was started with, in bytes.
    pub base_memory: u64,
    /// What was plugged in since, in bytes.
    #[serde(default)]
    pub plugged_memory: u64,
}

command! {
    Getfd = "getfd" -> Nothing;
    AddFd = "add-fd" -> AddedFd;
    RemoveFd = "remove-fd" -> Nothing;
    Migrate = "migrate" -> Nothing;
    MigrateIncoming = "migrate-incoming" -> Nothing;
    MigrateContinue = "migrate-continue" -> Nothing;
    MigrateCancel = "migrate_cancel" -> Nothing;
    QueryMigrate = "query-migrate" -> MigrationInfo;
    QueryMigrateCapabilities = "query-migrate-capabilities" -> Vec<MigrationCapability>;
    MigrateSetCapabilities = "migrate-set-capabilities" -> Nothing;
    QueryMigrateParameters = "query-migrate-parameters" -> MigrationParameters;
    MigrateSetParameters = "migrate-set-parameters" -> Nothing;
    XenSaveDevicesState = "xen-save-devices-state" -> Nothing;
    QueryMemorySizeSummary = "query-memory-size-summary" -> MemorySize;
}
