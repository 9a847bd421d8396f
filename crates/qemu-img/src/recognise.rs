//! What qemu-img's words on standard error mean; it has no other way to say why.

use crate::{Effect, Kind};

/// Phrases of QEMU 7.2 to 10.0 in the C locale, the telling ones first: "Could not open" stands before all kinds of causes.
const PHRASES: &[(&str, Kind)] = &[
    ("Is another process using the image", Kind::Locked),
    ("No space left on device", Kind::NoSpace),
    ("Disk quota exceeded", Kind::NoSpace),
    ("Image is not in", Kind::Corrupt),
    ("Image is corrupt", Kind::Corrupt),
    ("Marking image as corrupt", Kind::Corrupt),
    ("need to rebuild refcount structures", Kind::Corrupt),
    ("header too short", Kind::Corrupt),
    ("header exceeds", Kind::Corrupt),
    ("Unsupported cluster size", Kind::Corrupt),
    ("Could not read snapshots", Kind::Corrupt),
    ("Could not read L1 table", Kind::Corrupt),
    ("Reference count table", Kind::Corrupt),
    ("Active L1 table", Kind::Corrupt),
    ("Snapshot table", Kind::Corrupt),
    ("table is not aligned", Kind::Corrupt),
    ("snapshot not found", Kind::NotFound),
    ("No such file or directory", Kind::NotFound),
    ("Unknown driver", Kind::Unsupported),
    ("Unknown file format", Kind::Unsupported),
    ("does not accept value", Kind::Unsupported),
    ("not support", Kind::Unsupported),
    ("Unsupported", Kind::Unsupported),
];

/// The kind of failure that `said`, standard error with every name taken out, tells of.
pub(crate) fn kind(said: &str) -> Kind {
    PHRASES.iter().find(|(phrase, _)| said.contains(phrase)).map_or(Kind::Failed, |&(_, kind)| kind)
}

/// What is known of the effect of a writing command that failed and said `said`.
pub(crate) fn effect(said: &str) -> Effect {
    // An image that could not be opened was not written; the other kinds are found out before a write, too.
    let not_opened = said.starts_with("qemu-img: Could not open");
    match kind(said) {
        Kind::Locked | Kind::NotFound | Kind::Unsupported => Effect::None,
        _ if not_opened => Effect::None,
        _ => Effect::Unknown,
    }
}

#[cfg(test)]
mod tests;
