//! Xen's names of disks.

use std::fmt;
use std::str::FromStr;

use super::DiskName;

/// The name of a disk, or of a partition of it, as Xen has it (`xen-vbd-interface(7)`): `xvda`, `hdc`, `sda3`, `d0p1`.
///
/// Two names can mean one device: `xvdb` and `d1p0` do. Compare [`Vdev::devid`] to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vdev {
    bus: Bus,
    disk: u32,
    partition: u32,
}

/// What a [`Vdev`] is called after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bus {
    /// `xvda`: a paravirtual disk; disks to 1048575, partitions to 255.
    Xvd,
    /// `hda`: an IDE disk; disks to 3, partitions to 63.
    Hd,
    /// `sda`: a SCSI disk; disks to 15, partitions to 15.
    Sd,
    /// `d0p0`: a paravirtual disk by numbers, to the same limits as [`Bus::Xvd`].
    Numbered,
}

impl Bus {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Xvd => "xvd",
            Self::Hd => "hd",
            Self::Sd => "sd",
            Self::Numbered => "d",
        }
    }

    /// The highest disk and the highest partition.
    const fn limits(self) -> (u32, u32) {
        match self {
            Self::Xvd | Self::Numbered => ((1 << 20) - 1, 255),
            Self::Hd => (3, 63),
            Self::Sd => (15, 15),
        }
    }
}

/// Why a string is not a [`Vdev`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a disk of Xen: {problem}")]
#[non_exhaustive]
pub struct VdevError {
    /// The string as given.
    pub name: String,
    /// What is wrong with it and what is allowed.
    pub problem: &'static str,
}

impl Vdev {
    /// What it is called after.
    pub const fn bus(&self) -> Bus {
        self.bus
    }

    /// Which disk, from 0.
    pub const fn disk(&self) -> u32 {
        self.disk
    }

    /// Which partition; 0 for the whole disk.
    pub const fn partition(&self) -> u32 {
        self.partition
    }

    /// The number that Xen knows the device by, as `libxl__device_disk_dev_number` gives it.
    pub const fn devid(&self) -> u32 {
        let Self { bus, disk, partition } = *self;
        match bus {
            // Linux's block major numbers, which the first devices had.
            Bus::Hd => (if disk < 2 { 3 } else { 22 }) << 8 | (disk & 1) << 6 | partition,
            Bus::Sd => 8 << 8 | disk << 4 | partition,
            Bus::Xvd | Bus::Numbered if disk < 16 && partition < 16 => 202 << 8 | disk << 4 | partition,
            Bus::Xvd | Bus::Numbered => 1 << 28 | disk << 8 | partition,
        }
    }
}

/// Takes the names that a person writes, in the one spelling that each has.
///
/// `libxl` takes more: bare device numbers, hexadecimal and octal numbers and spaces in `d0p1`; and, by mistake, no
/// letter (`hd`) and an empty name. None of these is taken here.
impl FromStr for Vdev {
    type Err = VdevError;
    fn from_str(name: &str) -> Result<Self, VdevError> {
        parse(name).map_err(|problem| VdevError { name: name.to_owned(), problem })
    }
}

fn parse(name: &str) -> Result<Vdev, &'static str> {
    const UNKNOWN: &str = "a name is xvd, hd or sd with letters (xvda, xvda1), or d with numbers (d0p1)";
    let lettered = [Bus::Xvd, Bus::Hd, Bus::Sd]
        .into_iter()
        .find_map(|bus| name.strip_prefix(bus.prefix()).map(|rest| (bus, rest)));
    let (bus, disk, partition) = if let Some((bus, rest)) = lettered {
        let (letters, digits) = rest.split_at(rest.bytes().take_while(u8::is_ascii_lowercase).count());
        let disk = disk_of_letters(letters)?;
        let partition = match digits {
            "" => 0,
            "0" => return Err("partitions count from 1; without a number it is the whole disk"),
            _ => number(digits)?,
        };
        (bus, disk, partition)
    } else {
        let (disk, partition) =
            name.strip_prefix('d').and_then(|rest| rest.split_once('p')).ok_or(UNKNOWN)?;
        (Bus::Numbered, number(disk)?, number(partition)?)
    };
    let (most_disk, most_partition) = bus.limits();
    if disk > most_disk {
        return Err("the bus has no such disk: hd ends at hdd, sd at sdp, xvd at xvdbgqcv, d at d1048575");
    }
    if partition > most_partition {
        return Err("the disk has no such partition: hd has 63, sd 15, xvd and d 255");
    }
    Ok(Vdev { bus, disk, partition })
}

/// `a` is 0, `z` 25, `aa` 26.
fn disk_of_letters(letters: &str) -> Result<u32, &'static str> {
    if letters.is_empty() {
        return Err("after the bus come the letters of the disk: a, b, ..., z, aa, ...");
    }
    // More letters would overflow, and are above every limit.
    if letters.len() > 6 {
        return Ok(u32::MAX);
    }
    Ok(letters.bytes().fold(0, |disk, letter| disk * 26 + u32::from(letter - b'a') + 1) - 1)
}

fn number(digits: &str) -> Result<u32, &'static str> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("only decimal digits may stand there, and one at least");
    }
    if digits.starts_with('0') && digits.len() > 1 {
        return Err("a number has no leading zero");
    }
    Ok(digits.parse().unwrap_or(u32::MAX))
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bus == Bus::Numbered {
            return f.pad(&format!("d{}p{}", self.disk, self.partition));
        }
        let mut letters = Vec::new();
        let mut left = self.disk + 1;
        while left > 0 {
            left -= 1;
            letters.push(char::from(b'a' + (left % 26) as u8));
            left /= 26;
        }
        let letters: String = letters.into_iter().rev().collect();
        let partition = if self.partition == 0 { String::new() } else { self.partition.to_string() };
        f.pad(&format!("{}{letters}{partition}", self.bus.prefix()))
    }
}

impl DiskName {
    /// What Xen makes of the name; `None` for a name that is not Xen's, as every disk of other domains may have.
    pub fn vdev(&self) -> Option<Vdev> {
        self.as_str().parse().ok()
    }
}
