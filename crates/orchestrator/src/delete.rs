//! Delete.
use uuid::Uuid;

use crate::{DeletePlan, DeleteReport, DeleteRequest, DomainRef, Effect, Error, Kind, Ports};

/// Plans it, with no effect: a dry run.
///
/// # Errors
/// What makes it impossible, by name.
pub async fn plan_delete(
    _ports: &Ports<'_>,
    domain: &DomainRef,
    _request: &DeleteRequest,
    _id: Uuid,
) -> Result<DeletePlan, Error> {
    Err(Error::new(Kind::Refused, Effect::None, format!("{}", domain.name)))
}

/// Does it.
///
/// # Errors
/// What makes it impossible, by name.
pub async fn delete(
    _ports: &Ports<'_>,
    domain: &DomainRef,
    _request: &DeleteRequest,
    _id: Uuid,
) -> Result<DeleteReport, Error> {
    Err(Error::new(Kind::Refused, Effect::None, format!("{}", domain.name)))
}
