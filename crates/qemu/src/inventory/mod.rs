//! What disks a live QEMU has, and which of the domain's disks they are.
//!
//! [`attached`] makes a list of disks of QEMU's answers, [`matching`] finds the described ones among them. The questions
//! are asked in [`crate::live`]. Everything in the answers is untrusted: [`limits`] comes first.

pub(crate) mod attached;
pub(crate) mod file_name;
pub(crate) mod identity;
pub(crate) mod jobs;
pub(crate) mod limits;
pub(crate) mod matching;
pub(crate) mod naming;
pub(crate) mod swapped;

#[cfg(test)]
mod tests;
