//! The QEMU process of a domain: started, known again, and ended.
//!
//! A [`Process`] stands for the process that a domain may have. Whether it has one is never taken from a pid alone: what was
//! written down at its start holds the pid, the time when the kernel made the process, and the kernel's boot; and a monitor
//! that answers names its own process. The caller keeps two of these from acting at once on one domain, by the domain's lock;
//! should that fail, the lock on the log file, which QEMU holds while it lives, still lets only one be started.

mod argv;
mod found;
mod identity;
mod log;
mod run;
mod spec;
mod start;
mod stop;

#[cfg(test)]
mod tests;

pub use argv::argv;
pub use found::{Found, NoMonitor, Process};
pub use identity::Identity;
pub use run::{Run, RunRecord};
pub use spec::{Bus, Launch, MachineSpec, StartSpec};
pub use start::{Place, StartOptions, Started};
pub use stop::{StopOptions, StopWay, Stopped};
