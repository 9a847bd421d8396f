//! Freezing the guest's file systems, and thawing them.

use std::time::Duration;

use super::Execution;
use crate::error::from_port;
use crate::session::chain;
use crate::step::{Does, Stage};
use crate::{Effect, Error, Run};

impl Execution<'_> {
    pub(super) async fn freeze(&self, does: &Does, bound: Duration) -> Result<(), Error> {
        let frozen = self.ports.agent.need(&does.failure())?.freeze(bound).await;
        let Err(error) = frozen else { return Ok(()) };
        // An agent that did not answer may freeze them still.
        if error.effect != Effect::None {
            self.thaw(bound).await;
        }
        Err(does.failed(error))
    }

    /// Thaws the file systems that these stages may have frozen, where what leads back from them cannot be begun: a look that fails does not
    /// keep the agent from answering. A guest that stands still cannot answer.
    pub(crate) async fn thaw_frozen(&self, begun: &[Stage]) {
        let frozen = begun.iter().flat_map(Stage::steps).find_map(|step| match step.does {
            Does::Freeze { bound } => Some(bound),
            _ => None,
        });
        let Some(bound) = frozen.filter(|_| !self.found().is_frozen) else { return };
        let state = self.ports.guest.state().await;
        if state.is_ok_and(|state| !state.run().is_some_and(Run::runs)) {
            return;
        }
        self.thaw(bound).await;
    }

    /// Thaws the file systems; a failure becomes a warning.
    pub(super) async fn thaw(&self, bound: Duration) {
        let Some(agent) = self.ports.agent.get() else {
            self.warn(
                "the guest's file systems may be frozen still, and no agent is known that thaws them"
                    .to_owned(),
            );
            return;
        };
        let mut thawed = agent.thaw(bound).await;
        if thawed.is_err() {
            thawed = agent.thaw(bound).await;
        }
        self.found().is_frozen = thawed.is_err();
        if let Err(e) = thawed {
            let e = from_port(e, "the guest's file systems could not be thawed");
            self.warn(format!("{}; thaw them in the guest (fsfreeze --unfreeze), or reset it", chain(&e)));
        }
    }
}
