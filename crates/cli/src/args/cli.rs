//! The whole command line, and what several commands have.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use xlsnap_types::model::DomainName;

use super::{
    Check, Create, Delete, DomainCommand, Flatten, List, Recover, Revert, Show, SnapshotCreate,
    SnapshotDelete, SnapshotList, SnapshotRevert,
};

/// The exit codes, for the help and the manual.
pub(crate) const EXIT_CODES: &str = "\
0 done; 1 failed, nothing changed; 2 usage; 3 not found; 4 busy; 5 refused by a check;
6 failed, recovery is pending; 7 `check` has findings left.";

/// The variables of the environment, for the help and the manual.
pub(crate) const ENVIRONMENT: &str =
    "XLSNAP_ROOT is used where --root is not given; NO_COLOR turns colours off.";

/// Snapshots of whole virtual machines: all disks at one instant.
#[derive(Debug, Parser)]
#[command(name = "xlsnap", version, max_term_width = 100, subcommand_required = true, disable_help_subcommand = true,
          after_help = format!("Exit codes: {EXIT_CODES}\n\nEnvironment: {ENVIRONMENT}"))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The directory of records and domain files.
    ///
    /// Without it: XLSNAP_ROOT, else /var/lib/xen/snapshots on a Xen host, else /var/lib/xlsnap for root and
    /// $XDG_STATE_HOME/xlsnap for others.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Answer in JSON, errors on standard error included (docs/json.md).
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Tell on standard error what is done; twice for more, three times for every message to and from QEMU. Without it only warnings are told there.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Write the log (see --verbose) as JSON, one object a line.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,

    /// How long to wait for a domain that another xlsnap is working on.
    #[arg(long, global = true, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) wait: Duration,

    /// The qemu-img program.
    #[arg(long, global = true, value_name = "PROGRAM", default_value = "qemu-img")]
    pub(crate) qemu_img: PathBuf,
}

/// One of the things that xlsnap does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a snapshot of a domain: all its writable disks at one instant.
    Create(Create),
    /// List snapshots.
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all that is known of one snapshot.
    Show(Show),
    /// Bring a domain back to a snapshot: its disks, and its memory if the snapshot has it.
    ///
    /// With memory, the guest goes on where it was; the process of a domain that runs is ended for that. Without memory, a domain
    /// that is off stays off, and the guest of a domain that runs is reset.
    Revert(Revert),
    /// Delete a snapshot.
    Delete(Delete),
    /// Make disks stand on nothing: copy what is read from the files below their images into these.
    ///
    /// No snapshot is deleted, but those that --keep leaves out; the files that hold the others stay beside. A guest that runs goes on. What is
    /// interrupted leaves the disk as it was, and goes on from there when it is done again.
    Flatten(Flatten),
    /// Compare records, images and the journal, and say what is at risk.
    Check(Check),
    /// Complete or undo what a crash left. The next operation on a domain does this by itself.
    Recover(Recover),
    /// Describe domains by files; start and stop them.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Read libxl-json and write it in the canonical form, or say where it is wrong.
    Json(Json),
    /// Write a shell's completions to standard output.
    Completions(Completions),
    /// Write the manual page to standard output, or all pages into a directory.
    Man(Man),
    /// Show the help of a command, or of xlsnap.
    Help(Help),
    /// As `create`, in the words of xl's design.
    #[command(name = "snapshot-create")]
    SnapshotCreate(SnapshotCreate),
    /// As `list`, in the words of xl's design.
    #[command(name = "snapshot-list")]
    SnapshotList(SnapshotList),
    /// As `delete`, in the words of xl's design.
    #[command(name = "snapshot-delete")]
    SnapshotDelete(SnapshotDelete),
    /// As `revert`, in the words of xl's design.
    #[command(name = "snapshot-revert")]
    SnapshotRevert(SnapshotRevert),
}

/// The domain that a command is about.
#[derive(Debug, Args)]
pub(crate) struct OneDomain {
    /// The domain, by name or uuid.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DomainName,
    #[command(flatten)]
    pub(crate) monitor: Monitor,
}

/// A domain, or all of them.
#[derive(Debug, Args)]
pub(crate) struct MaybeDomain {
    /// The domain, by name or uuid; every domain without it.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: Option<DomainName>,
    #[command(flatten)]
    pub(crate) monitor: Monitor,
}

/// A monitor to be used instead of a file's.
#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// The QMP socket of the running domain; its disks are read off it, and DOMAIN needs no file.
    #[arg(long, value_name = "SOCKET", requires = "domain")]
    pub(crate) qmp: Option<PathBuf>,
}

/// The struct of a libxl-json text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonType {
    /// libxl_domain_snapshot
    DomainSnapshot,
    /// libxl_disk_snapshot
    DiskSnapshot,
}

#[derive(Debug, Args)]
pub(crate) struct Json {
    /// The struct that is read.
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "domain-snapshot")]
    pub(crate) kind: JsonType,

    /// Take what libxl itself takes, instead of only what is beyond doubt.
    #[arg(long)]
    pub(crate) libxl: bool,

    /// The file; `-` for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for each command into this directory, which must be there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Help {
    /// The command; `domain start` has two words.
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    // A year: far beyond any use, and far below what a deadline can hold.
    if !(0.0..=31_536_000.0).contains(&seconds) {
        return Err("it is not between 0 and 31536000 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A number of bytes a second, as QEMU's programs read one.
pub(super) fn bytes_a_second(text: &str) -> Result<NonZeroU64, String> {
    let (number, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let not_one = || "it is no number of bytes, with K, M or G after it or without".to_owned();
    let number: u64 = number.parse().map_err(|_| not_one())?;
    // QEMU takes no more than that.
    let most = i64::MAX.unsigned_abs();
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= most);
    NonZeroU64::new(bytes.ok_or_else(not_one)?).ok_or_else(|| "at least one byte has to move".to_owned())
}

/// Splits `KEY=VALUE` at the first `=`.
pub(super) fn split(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=').ok_or_else(|| "there is no '=' in it".to_owned())
}
