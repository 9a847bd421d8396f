//! Recover.
use crate::{DomainRef, Effect, Error, Kind, Ports, Recovered};

/// Finishes or undoes what a crash left; `None` when nothing was left.
///
/// # Errors
/// [`Kind::RecoveryPending`] when it cannot be finished now.
pub async fn recover(_ports: &Ports<'_>, domain: &DomainRef) -> Result<Option<Recovered>, Error> {
    Err(Error::new(Kind::Refused, Effect::None, domain.name.clone()))
}
