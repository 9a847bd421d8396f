//! The spellings of the design's own time (`xl snapshot-*`).

use std::path::PathBuf;

use clap::Args;
use xlsnap_types::model::{DomainName, SnapshotName};

use super::Monitor;

#[derive(Debug, Args)]
pub(crate) struct SnapshotCreate {
    /// A KEY=VALUE file that describes the snapshot (it may be left out), and the domain.
    #[arg(value_name = "[CONFIGFILE] DOMAIN", num_args = 1..=2, required = true, id = "domain")]
    pub(crate) operands: Vec<PathBuf>,

    /// The snapshot's name; the time in seconds since 1970 without it. (-N is the dry run.)
    #[arg(short, long)]
    pub(crate) name: Option<SnapshotName>,

    /// Leave the memory out. Without it, and without a CONFIGFILE, the memory of a guest that is on is part of the snapshot; a
    /// CONFIGFILE says itself whether it is (memory=).
    #[arg(short = 'D', long)]
    pub(crate) disk_only: bool,

    /// Only say what would be done.
    #[arg(short = 'N', long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) monitor: Monitor,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotList {
    /// The domain.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,

    /// Descriptions and disks too.
    #[arg(short, long)]
    pub(crate) long: bool,

    /// Only this snapshot.
    #[arg(short, long)]
    pub(crate) name: Option<SnapshotName>,

    #[command(flatten)]
    pub(crate) monitor: Monitor,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotDelete {
    /// The domain.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,

    /// The snapshot.
    #[arg(short, long)]
    pub(crate) name: SnapshotName,

    /// Only say what would be done.
    #[arg(short = 'N', long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) monitor: Monitor,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotRevert {
    /// The domain.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,

    /// The snapshot.
    #[arg(short, long)]
    pub(crate) name: SnapshotName,

    /// Attach to the domain's console (as in `xl restore`): refused, because xlsnap attaches to no console.
    #[arg(short = 'c')]
    pub(crate) console: bool,

    /// Leave the guest paused afterwards (as in `xl restore`).
    #[arg(short = 'p')]
    pub(crate) paused: bool,

    /// Say more (as in `xl restore`): the same as -vv.
    #[arg(short = 'd')]
    pub(crate) debug: bool,

    /// Only say what would be done.
    #[arg(short = 'N', long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) monitor: Monitor,
}
