//! A plan together with what would carry it out, for a dry run.

use std::path::PathBuf;

use xlsnap_orchestrator::PlannedStage;

use crate::Connection;

/// A plan, and what it would be carried out by.
#[derive(Debug, Clone)]
pub struct Planned<P> {
    /// The plan.
    pub plan: P,
    /// Its stages in the order of the effects: the steps in words of the domain, and the commands that carry them out when nothing
    /// fails.
    pub stages: Vec<PlannedStage>,
    /// How the domain is reached now; `None` when only its records are known.
    pub connection: Option<Connection>,
    /// Where the domain's records are.
    pub records: PathBuf,
    /// The domain's file, if it has one.
    pub file: Option<PathBuf>,
}
