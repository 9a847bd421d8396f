//! Revert.
use uuid::Uuid;

use crate::{DomainRef, Effect, Error, Kind, Ports, RevertPlan, RevertReport, RevertRequest};

/// Plans it, with no effect: a dry run.
///
/// # Errors
/// What makes it impossible, by name.
pub async fn plan_revert(
    _ports: &Ports<'_>,
    domain: &DomainRef,
    _request: &RevertRequest,
    _id: Uuid,
) -> Result<RevertPlan, Error> {
    Err(Error::new(Kind::Refused, Effect::None, format!("{}", domain.name)))
}

/// Does it.
///
/// # Errors
/// What makes it impossible, by name.
pub async fn revert(
    _ports: &Ports<'_>,
    domain: &DomainRef,
    _request: &RevertRequest,
    _id: Uuid,
) -> Result<RevertReport, Error> {
    Err(Error::new(Kind::Refused, Effect::None, format!("{}", domain.name)))
}
