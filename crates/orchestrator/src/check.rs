//! Check.

use crate::{CheckReport, CheckRequest, DomainRef, Effect, Error, Kind, Ports};

/// Compares records, images, overlays and the journal, and with [`CheckRequest::repair`] mends what it can safely.
///
/// # Errors
/// When the records or the disks cannot be read at all.
pub async fn check(
    _ports: &Ports<'_>,
    domain: &DomainRef,
    _request: &CheckRequest,
) -> Result<CheckReport, Error> {
    Err(Error::new(Kind::Refused, Effect::None, domain.name.clone()))
}
