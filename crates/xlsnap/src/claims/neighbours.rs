//! What other domains say of the files of a domain's chains, as the orchestrator asks it.

use uuid::Uuid;
use xlsnap_orchestrator::{self as orchestrator, Claimed, Effect, PortError, PortErrorKind, async_trait};

use super::FileId;
use crate::Host;

/// All domains but one.
pub(crate) struct Neighbours<'h> {
    pub(crate) host: &'h Host,
    pub(crate) domain: Uuid,
    pub(crate) name: &'h str,
}

#[async_trait]
impl orchestrator::Claims for Neighbours<'_> {
    async fn of(&self, files: &[String]) -> Result<Claimed, PortError> {
        let claims = self.host.claims_beside(self.domain, self.name).await.map_err(|e| {
            let message = "the other domains' images cannot be looked at";
            PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(e)
        })?;
        let claimed = files.iter().filter_map(|file| {
            let claim = claims.of(&FileId::of(file)).next()?;
            Some((file.clone(), format!("it is {claim}")))
        });
        Ok(Claimed { files: claimed.collect(), doubt: claims.doubts.first().cloned() })
    }
}
