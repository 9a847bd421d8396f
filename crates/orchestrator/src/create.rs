//! Create.
use uuid::Uuid;

use crate::{CreatePlan, CreateReport, CreateRequest, DomainRef, Effect, Error, Kind, Ports};

/// Plans it, with no effect: a dry run.
///
/// # Errors
/// What makes it impossible, by name.
pub async fn plan_create(
    _ports: &Ports<'_>,
    domain: &DomainRef,
    _request: &CreateRequest,
    _id: Uuid,
) -> Result<CreatePlan, Error> {
    Err(Error::new(Kind::Refused, Effect::None, format!("{}", domain.name)))
}

/// Does it.
///
/// # Errors
/// What makes it impossible, by name.
pub async fn create(
    _ports: &Ports<'_>,
    domain: &DomainRef,
    _request: &CreateRequest,
    _id: Uuid,
) -> Result<CreateReport, Error> {
    Err(Error::new(Kind::Refused, Effect::None, format!("{}", domain.name)))
}
