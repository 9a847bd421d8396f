//! `xlsnap domain ...`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use uuid::Uuid;
use xlsnap_types::model::{DiskName, DomainName};

use super::cli::seconds;
use super::{Help, split};

#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// Describe a domain by a new file.
    Add(DomainAdd),
    /// List the domains that files describe.
    #[command(visible_alias = "ls")]
    List,
    /// Show a domain's file, and how the domain is reached now.
    Show(DomainShow),
    /// Remove a domain's file. Images stay, and so do the records of snapshots.
    Remove(DomainRemove),
    /// Drop the records of a domain that has no file any more.
    Forget(DomainForget),
    /// Start a domain's QEMU as its file says, and wait until its monitor answers.
    Start(DomainStart),
    /// Stop a domain: ask the guest to shut down, then tell QEMU to end, then kill it.
    ///
    /// If it runs still after all that was allowed, the exit code is 1; what was asked goes on, and it may end later.
    Stop(DomainStop),
    /// Say whether a domain is off, runs or is paused, and which process it has.
    Status(DomainShow),
    /// Start a domain's QEMU on this terminal, and wait until it ends.
    Run(DomainStart),
    /// Show the help of a command on domains, or of `domain`.
    Help(Help),
}

#[derive(Debug, Args)]
pub(crate) struct DomainAdd {
    /// The domain's name.
    #[arg(value_name = "NAME")]
    pub(crate) name: DomainName,

    /// A disk: what to call it, and its image; may be repeated.
    #[arg(long, value_name = "DISK=FILE")]
    pub(crate) disk: Vec<DiskWord>,

    /// The format of a disk's image; without it qemu-img is asked once, now.
    #[arg(long, value_name = "DISK=FORMAT")]
    pub(crate) format: Vec<DiskWord>,

    /// The guest cannot write to this disk.
    #[arg(long, value_name = "DISK", value_delimiter = ',')]
    pub(crate) read_only: Vec<DiskName>,

    /// This disk is a CD-ROM or a floppy.
    #[arg(long, value_name = "DISK", value_delimiter = ',')]
    pub(crate) removable: Vec<DiskName>,

    /// QEMU's node name or drive id of a disk, where it cannot be told from the image.
    #[arg(long, value_name = "DISK=NODE")]
    pub(crate) node: Vec<DiskWord>,

    /// The QMP socket that its QEMU or qemu-storage-daemon listens on while it runs.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) qmp: Option<PathBuf>,

    /// The domain's uuid; a new one without it.
    #[arg(long)]
    pub(crate) uuid: Option<Uuid>,

    /// The number by which C programs of libxl's snapshot design name it.
    #[arg(long, value_name = "N")]
    pub(crate) domid: Option<u32>,
}

/// `DISK=WORD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskWord {
    pub(crate) disk: DiskName,
    pub(crate) word: String,
}

impl FromStr for DiskWord {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (disk, word) = split(text)?;
        if word.is_empty() {
            return Err("there is nothing after the '='".to_owned());
        }
        let disk = disk.parse().map_err(|e: xlsnap_types::model::NameError| e.to_string())?;
        Ok(Self { disk, word: word.to_owned() })
    }
}

#[derive(Debug, Args)]
pub(crate) struct DomainShow {
    /// The domain, by name or uuid.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,
}

#[derive(Debug, Args)]
pub(crate) struct DomainRemove {
    /// The domain, by name or uuid.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,

    /// Remove it although it has snapshots; their records stay, under its uuid, until `domain forget` drops them.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DomainForget {
    /// The domain, by the name it had last or by uuid.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,

    /// Drop the records although data of its snapshots is still there, or an interrupted operation waits for recovery. Images,
    /// overlays and memory files stay; without a record they are foreign to xlsnap.
    #[arg(long)]
    pub(crate) records_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DomainStart {
    /// The domain, by name or uuid.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,

    /// Leave the guest paused.
    #[arg(long)]
    pub(crate) paused: bool,

    /// How long QEMU has until its monitor answers; then it is ended.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) within: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DomainStop {
    /// The domain, by name or uuid.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,

    /// How long the guest has to shut down after it was asked; 0 to not ask it.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) powerdown: Duration,

    /// How long QEMU has to end after it was told to; 0 to not tell it.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) quit: Duration,

    /// How long it has after SIGTERM, and again after SIGKILL; 0 to not kill it.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) kill: Duration,
}
