//! The QEMU process of a domain: started, known again, and ended.
//!
//! A [`Process`] stands for the process that a domain may have. Whether it has one is never taken from a pid alone, nor from a
//! process's name: what was written down at its start holds the pid, the time when the kernel made the process, and the
//! kernel's boot; and of a monitor that answers the kernel tells which process serves it ([`Peer`]).
//!
//! A start is written down before its process is ([`Begun`]), with an id that the process gets in its environment. So a
//! program that is killed while it starts QEMU leaves no process that the next one does not know. The caller keeps two of
//! these from acting at once on one domain, by the domain's lock; should that fail, the lock on the log file, which QEMU holds
//! while it lives, still lets only one be started.

mod argv;
mod facts;
mod found;
mod identity;
mod images;
mod log;
mod mark;
mod missing;
mod needs;
mod peer;
mod program;
mod run;
mod spec;
mod start;
mod stop;
mod words;

#[cfg(test)]
mod tests;

pub use argv::argv;
pub use facts::StartFacts;
pub(crate) use facts::device;
pub use found::{Found, NoMonitor, Process};
pub use identity::{Identity, has_ended};
pub use images::names_image_literally;
pub(crate) use images::no_external;
pub use missing::Missing;
pub use needs::{Need, Thing, needs};
pub use peer::Peer;
pub(crate) use program::Program;
pub use run::{Begun, Run, RunRecord, Written};
pub use spec::{Bus, Launch, MachineSpec, StartSpec};
pub use start::{Place, StartOptions, Started};
pub use stop::{StopOptions, StopWay, Stopped};
