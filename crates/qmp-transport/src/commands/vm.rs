//! The virtual machine as a whole. qemu-storage-daemon has of these only `quit`.

use serde::{Deserialize, Serialize};

use super::{Nothing, command};

/// Whether the guest runs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryStatus;

/// The result of [`QueryStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct StatusInfo {
    /// Whether its processors run.
    pub running: bool,
    /// Why, or why not.
    pub status: RunState,
}

/// The state of a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunState {
    /// The guest runs.
    Running,
    /// `stop` was executed.
    Paused,
    /// QEMU was started with `-S`.
    Prelaunch,
    /// It waits for the state of another QEMU (`-incoming`).
    Inmigrate,
    /// It was migrated away; its disks are inactive.
    Postmigrate,
    /// A migration is about to end.
    FinishMigrate,
    /// A snapshot with memory is being loaded.
    RestoreVm,
    /// A snapshot with memory is being saved.
    SaveVm,
    /// The guest shut down, and QEMU was told to stay.
    Shutdown,
    /// The guest sleeps.
    Suspended,
    /// A disk failed.
    IoError,
    /// QEMU failed.
    InternalError,
    /// The guest crashed.
    GuestPanicked,
    /// The watchdog bit.
    Watchdog,
    /// A debugger holds it.
    Debug,
    /// One of a pair in lockstep.
    Colo,
    /// One that came after QEMU 10.0.
    #[serde(other)]
    Unknown,
}

impl RunState {
    /// QEMU's word for it; `unknown` for one that this version does not know.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Prelaunch => "prelaunch",
            Self::Inmigrate => "inmigrate",
            Self::Postmigrate => "postmigrate",
            Self::FinishMigrate => "finish-migrate",
            Self::RestoreVm => "restore-vm",
            Self::SaveVm => "save-vm",
            Self::Shutdown => "shutdown",
            Self::Suspended => "suspended",
            Self::IoError => "io-error",
            Self::InternalError => "internal-error",
            Self::GuestPanicked => "guest-panicked",
            Self::Watchdog => "watchdog",
            Self::Debug => "debug",
            Self::Colo => "colo",
            Self::Unknown => "unknown",
        }
    }
}

/// A property of an object that is text. The machine's type is `type` of `/machine`; a storage daemon has no `/machine`.
#[derive(Debug, Clone, Serialize)]
pub struct QomGetString {
    /// The object's path.
    pub path: String,
    /// The property.
    pub property: String,
}

/// Sets a property of an object that is text. `drive` of a disk's device names the node of its image, also while it is in use.
#[derive(Debug, Clone, Serialize)]
pub struct QomSetString {
    /// The object's path.
    pub path: String,
    /// The property.
    pub property: String,
    /// Its value from now on.
    pub value: String,
}

/// The properties of an object. `/machine/peripheral` has each device that was given an id, under that.
#[derive(Debug, Clone, Serialize)]
pub struct QomList {
    /// The object's path.
    pub path: String,
}

/// A property in the result of [`QomList`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ObjectProperty {
    /// Its name.
    pub name: String,
    /// Its type; `child<virtio-blk-pci>` of an object below.
    #[serde(rename = "type")]
    pub property_type: String,
}

/// Whether the host's processor executes the guest (KVM), and not QEMU's emulator.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryKvm;

/// The result of [`QueryKvm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct KvmInfo {
    /// Whether it does.
    pub enabled: bool,
    /// Whether this QEMU could.
    pub present: bool,
}

/// Stops the processors.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stop;

/// Starts the processors; activates inactive disks before.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cont;

/// Resets the machine, as its button does.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SystemReset;

/// Asks the guest to shut down, as its button does.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SystemPowerdown;

/// Ends QEMU. It answers, and then closes the connection.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quit;

/// A command of the monitor for people.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HumanMonitorCommand {
    /// The line.
    pub command_line: String,
}

command! {
    QomGetString = "qom-get" -> String;
    QomSetString = "qom-set" -> Nothing;
    QomList = "qom-list" -> Vec<ObjectProperty>;
    QueryStatus = "query-status" -> StatusInfo;
    QueryKvm = "query-kvm" -> KvmInfo;
    Stop = "stop" -> Nothing;
    Cont = "cont" -> Nothing;
    SystemReset = "system_reset" -> Nothing;
    SystemPowerdown = "system_powerdown" -> Nothing;
    Quit = "quit" -> Nothing;
    HumanMonitorCommand = "human-monitor-command" -> String;
}
