//! What is kept of a domain, to know it while it is off.

use std::fs;

use xlsnap_orchestrator::PortError;
use xlsnap_types::model::XenRecord;

use crate::Configuration;
use crate::domains::Domain;
use crate::vbd;

use super::XlDomain;
use super::look::kept;

impl XlDomain {
    /// What is to be kept of the domain as it runs now; `None` while it is off.
    ///
    /// Its configuration is libxl's own file of it, else what xl says, which asks QEMU; without either it is left out.
    ///
    /// # Errors
    /// When its entries in xenstore cannot be read.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn to_keep(&self) -> Result<Option<XenRecord>, PortError> {
        let Some(domain) = self.running().await? else { return Ok(None) };
        let disks = vbd::list(&*self.context.store, domain.domid).await?.iter().map(kept).collect();
        let configuration = match self.userdata(&domain) {
            Some(found) => Some(found),
            None => match self.context.toolstack.configuration(domain.domid).await {
                Ok(text) => Configuration::parse(&text).ok(),
                Err(error) => {
                    tracing::warn!(%error, "the configuration of domain {} cannot be kept", self.name);
                    None
                }
            },
        };
        let configuration = configuration.map(|of| of.to_text());
        Ok(Some(XenRecord {
            disks,
            configuration,
            domid: Some(domain.domid.number().into()),
            boot: this_boot(),
        }))
    }

    fn userdata(&self, domain: &Domain) -> Option<Configuration> {
        let name = format!("userdata-d.{}.{}.libxl-json", domain.domid, self.uuid.hyphenated());
        let file = self.context.places.userdata.join(name);
        let found =
            fs::metadata(&file).ok().filter(|of| of.is_file() && of.len() <= Configuration::MAX_BYTES as u64);
        let text = found.and_then(|_| fs::read_to_string(&file).ok())?;
        let configuration = Configuration::parse(&text).ok()?;
        (configuration.uuid() == Some(self.uuid)).then_some(configuration)
    }
}

/// Which boot of the host this is (random(4), `boot_id`): domids begin anew with each.
pub fn this_boot() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|boot| !boot.is_empty())
}
