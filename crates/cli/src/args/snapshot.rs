//! The commands on snapshots.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use xlsnap_types::model::{DiskName, SnapshotName};

use super::{MaybeDomain, OneDomain, bytes_a_second, split};

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) domain: OneDomain,

    /// The snapshot's name; the time in seconds since 1970 without it.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<SnapshotName>,

    /// Read the request from a KEY=VALUE file (docs/formats.md). What an option says otherwise is an error.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// What to say about the snapshot.
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) description: Option<String>,

    /// Take this disk, and no other that is not named; may be repeated.
    #[arg(long, value_name = "DISK", value_delimiter = ',')]
    pub(crate) disk: Vec<DiskName>,

    /// Leave this disk out; may be repeated.
    #[arg(long, value_name = "DISK", value_delimiter = ',')]
    pub(crate) exclude: Vec<DiskName>,

    /// Leave this disk's image as it is from now on, and put a new file on top, which takes the writes; may be repeated. A comma in
    /// FILE is doubled.
    #[arg(long, value_name = "DISK[=FILE]")]
    pub(crate) external: Vec<Externals>,

    /// Let the new file of an external snapshot take the name of the disk's image, so that scripts and configurations which start the
    /// domain by that name start the new file; what the image holds moves to another name. Without either option that is so where the
    /// domain's file does not say how it is started, and where it can be; but a FILE that is named takes the writes itself.
    #[arg(long, conflicts_with = "no_keep_name")]
    pub(crate) keep_name: bool,

    /// Leave the disk's image its name: what starts the domain has to name the new file.
    #[arg(long)]
    pub(crate) no_keep_name: bool,

    /// Save the guest's memory too: to FILE, inside the disks' images (`internal`), or without either to a file beside the
    /// snapshot's record.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "yes")]
    pub(crate) memory: Option<Memory>,

    /// How the memory is saved. The least pause that QEMU has is taken without it.
    #[arg(long, value_name = "MODE", value_enum, requires = "memory")]
    pub(crate) memory_mode: Option<MemoryMode>,

    /// Pack the memory's file.
    #[arg(long, value_name = "HOW", value_enum, requires = "memory")]
    pub(crate) compress: Option<Compress>,

    /// Freeze the guest's file systems meanwhile, through its agent, which has so many seconds to answer.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30",
          value_parser = super::seconds)]
    pub(crate) quiesce: Option<Duration>,

    /// Keep a word with the snapshot; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<Label>,

    /// When the snapshot may be pruned: a time (RFC 3339, or seconds since 1970), or a span from now (`7d`, `36h`).
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,

    /// Only say what would be done, and to which images and files.
    #[arg(short = 'n', long, visible_short_alias = 'N')]
    pub(crate) dry_run: bool,
}

/// Where the memory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Memory {
    /// To its usual file.
    Yes,
    /// Inside the images.
    Internal,
    /// To this file.
    File(String),
}

impl FromStr for Memory {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "yes" => Ok(Self::Yes),
            "internal" => Ok(Self::Internal),
            file if file.contains('/') => Ok(Self::File(file.to_owned())),
            word => Err(format!(
                "{word:?} is neither internal nor a path; a file of this directory is ./{word}, and a snapshot's name stands \
                 before --memory"
            )),
        }
    }
}

/// How the memory is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MemoryMode {
    /// With the least pause that there is.
    Auto,
    /// The guest runs on as soon as its writes are tracked.
    Background,
    /// The guest runs while its memory is saved, and stops for what is left.
    Switchover,
    /// The guest stops until its memory is saved.
    Stop,
}

/// How a memory file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compress {
    /// Not.
    None,
    /// As a zstd frame.
    Zstd,
}

/// `DISK[=FILE]`, one or more of them between commas; a comma in a file's name is doubled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Externals(pub(crate) Vec<External>);

impl FromStr for Externals {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = vec![String::new()];
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c == ',' && rest.next_if_eq(&',').is_none() {
                words.push(String::new());
            } else {
                words.last_mut().expect("it begins with one").push(c);
            }
        }
        words.iter().map(|word| word.parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// `DISK[=FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) disk: DiskName,
    pub(crate) file: Option<String>,
}

impl FromStr for External {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (disk, file) = match text.split_once('=') {
            Some((_, "")) => return Err("there is no file after the '='".to_owned()),
            Some((disk, file)) => (disk, Some(file.to_owned())),
            None => (text, None),
        };
        Ok(Self { disk: disk.parse().map_err(|e: xlsnap_types::model::NameError| e.to_string())?, file })
    }
}

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Long enough for any word, short enough for a record that is read with ten thousand others.
        const MAX: usize = 1024;
        let (key, value) = split(text)?;
        if key.is_empty() {
            return Err("there is no key before the '='".to_owned());
        }
        if text.len() > MAX {
            return Err(format!("it has {} bytes; at most {MAX} are allowed", text.len()));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) domain: MaybeDomain,

    /// Draw which snapshot was made on top of which, and where the domain is now; of external snapshots also which file stands on which,
    /// what it takes on its disk, and which state it holds.
    #[arg(long)]
    pub(crate) tree: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) domain: OneDomain,

    /// The snapshot.
    #[arg(value_name = "NAME")]
    pub(crate) name: SnapshotName,
}

#[derive(Debug, Args)]
pub(crate) struct Revert {
    #[command(flatten)]
    pub(crate) domain: OneDomain,

    /// The snapshot.
    #[arg(value_name = "NAME")]
    pub(crate) name: SnapshotName,

    /// First make a snapshot of what would be lost, under this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) safety: Option<SnapshotName>,

    /// Let the guest run afterwards, whatever it did in the snapshot.
    #[arg(long, conflicts_with = "paused")]
    pub(crate) running: bool,

    /// Leave the guest paused afterwards.
    #[arg(long)]
    pub(crate) paused: bool,

    /// End the process of a domain that runs, and start it again, instead of reverting the disks under it.
    #[arg(long)]
    pub(crate) offline: bool,

    /// Bring the disks back alone, although the snapshot has the guest's memory: for a memory that is damaged or lost.
    #[arg(long)]
    pub(crate) without_memory: bool,

    /// Remove the dirty bitmaps of the disks that go back; the next backup that goes by them has to be a full one.
    #[arg(long)]
    pub(crate) drop_bitmaps: bool,

    /// Only say what would be done, and to which images and files.
    #[arg(short = 'n', long, visible_short_alias = 'N')]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) domain: OneDomain,

    /// The snapshot.
    #[arg(value_name = "NAME")]
    pub(crate) name: SnapshotName,

    /// Delete the snapshots that were made on top of it too, leaves first.
    #[arg(long)]
    pub(crate) children: bool,

    /// Forget the record and leave the images as they are.
    #[arg(long)]
    pub(crate) metadata_only: bool,

    /// Merge no files that no snapshot needs any more: that is what takes long, and a later deletion does it.
    #[arg(long, conflicts_with = "metadata_only")]
    pub(crate) no_merge: bool,

    /// Move at most so many bytes a second between files, with K, M or G for 1024, 1024² or 1024³ of them.
    #[arg(long, value_name = "LIMIT", value_parser = bytes_a_second, conflicts_with_all = ["metadata_only", "no_merge"])]
    pub(crate) rate: Option<NonZeroU64>,

    /// Write to this file below a disk's image too, although it is not the domain's: what stands on it goes down into it and is removed, and
    /// a snapshot inside it is deleted; may be repeated.
    #[arg(long, value_name = "FILE", conflicts_with = "metadata_only")]
    pub(crate) into_base: Vec<String>,

    /// Only say what would be done, and to which images and files.
    #[arg(short = 'n', long, visible_short_alias = 'N')]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Flatten {
    #[command(flatten)]
    pub(crate) domain: OneDomain,

    /// Only this disk; may be repeated. Without it, every writable disk.
    #[arg(long = "disk", value_name = "DISK")]
    pub(crate) disks: Vec<DiskName>,

    /// Delete first, of the snapshots that the domain descends from, all but so many of the nearest.
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,

    /// Move at most so many bytes a second between files, with K, M or G for 1024, 1024² or 1024³ of them.
    #[arg(long, value_name = "LIMIT", value_parser = bytes_a_second)]
    pub(crate) rate: Option<NonZeroU64>,

    /// Write to this file below a disk's image, although it is not the domain's: what stands on it goes down into it and is removed, and the
    /// file is the disk's image from then on; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) into_base: Vec<String>,

    /// Only say what would be done, and to which images and files.
    #[arg(short = 'n', long, visible_short_alias = 'N')]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("orphan").args(["adopt", "delete_orphan"])))]
#[command(group(ArgGroup::new("change").args(["repair", "keep_base", "keep_overlay", "relocate", "adopt", "delete_orphan"]).multiple(true)))]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) domain: MaybeDomain,

    /// Do the repairs that can lose nothing.
    #[arg(long)]
    pub(crate) repair: bool,

    /// Read whole memory files, and have each image checked by its own tool while no process has it open.
    #[arg(long)]
    pub(crate) deep: bool,

    /// Take the files below this disk for what they hold now, although they were written to or replaced; may be repeated.
    #[arg(long, value_name = "DISK", value_delimiter = ',', requires = "domain", conflicts_with_all = ["adopt", "delete_orphan"])]
    pub(crate) keep_base: Vec<DiskName>,

    /// As `--keep-base`, where the disk goes on with what its image holds above these files: both take them as they are, and change no
    /// image; may be repeated.
    #[arg(long, value_name = "DISK", value_delimiter = ',', requires = "domain", conflicts_with_all = ["relocate", "adopt", "delete_orphan"])]
    pub(crate) keep_overlay: Vec<DiskName>,

    /// Follow a file of the domain's, of a disk or with memory, that was moved or renamed, or a directory with such files: headers, records
    /// and the domain's file name it NEW from then on; may be repeated, and files that exchanged their names are named together. A name
    /// with `=` in it is given absolute.
    #[arg(long, value_name = "OLD=NEW", requires = "domain", conflicts_with_all = ["repair", "deep", "adopt", "delete_orphan"])]
    pub(crate) relocate: Vec<Relocated>,

    /// Make a record of this snapshot, which stands in the images and which no record names: it can be reverted to and deleted then.
    #[arg(long, value_name = "NAME", requires = "domain", conflicts_with_all = ["repair", "deep", "delete_orphan"])]
    pub(crate) adopt: Option<SnapshotName>,

    /// Delete what no record names: a snapshot of this name in the images, or a memory file or an overlay that a check has listed.
    #[arg(long, value_name = "NAME|FILE", requires = "domain", conflicts_with_all = ["repair", "deep"], allow_hyphen_values = true)]
    pub(crate) delete_orphan: Option<String>,

    /// Adopt the snapshot of this disk, or delete it from this one, and from no other that is not named; may be repeated.
    #[arg(long, value_name = "DISK", value_delimiter = ',', requires = "orphan")]
    pub(crate) disk: Vec<DiskName>,

    /// Only say what would be done, and to which images and files.
    #[arg(short = 'n', long, visible_short_alias = 'N', requires = "change")]
    pub(crate) dry_run: bool,
}

/// What `--relocate` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relocated {
    pub(crate) old: String,
    pub(crate) new: String,
}

impl FromStr for Relocated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The second of two absolute names begins with a slash.
        let halves = text.split_once("=/").map(|(old, new)| (old.to_owned(), format!("/{new}")));
        let halves =
            halves.or_else(|| text.split_once('=').map(|(old, new)| (old.to_owned(), new.to_owned())));
        match halves {
            Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok(Self { old, new }),
            _ => Err("it is the name that the file had, `=`, and the name that it has now".to_owned()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    pub(crate) domain: MaybeDomain,

    /// Finish a revert whose memory cannot be restored with the disks alone; the domain is off then.
    #[arg(long, requires = "domain")]
    pub(crate) without_memory: bool,

    /// Only say what would be done, and to which images and files.
    #[arg(short = 'n', long, visible_short_alias = 'N')]
    pub(crate) dry_run: bool,
}
