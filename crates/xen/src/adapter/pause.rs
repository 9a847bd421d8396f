//! Stopping the guest and letting it run, by xl.
//!
//! Pauses count (measured, Xen 4.17: two of `xl pause` need two of `xl unpause`), so the state is looked at before each.

use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{Effect, Pause, PortError, PortErrorKind, Run};
use xlsnap_types::model::StateFlags;

use crate::domains::Domain;
use crate::error::{after_effect, of_xl};

use super::XlDomain;
use super::power::NO_RESET;

/// How many pauses are taken away from a guest that is to run: more than there are programs that pause it.
const PAUSES: usize = 8;
/// How often it is looked whether a guest goes on after a save that failed, and how long between.
const RESUMES: usize = 50;
const MOMENT: Duration = Duration::from_millis(200);

impl XlDomain {
    /// Puts a guest back to what it did before: one that ran runs. Of one that was paused, the pause that `xl save -p` added is
    /// taken away where that pause is certain (`ours`), and no other. A domain that is off is left alone.
    pub(super) async fn put_back(&self, was: Run, ours: bool) -> Result<(), PortError> {
        match was {
            Run::Runs => self.let_run().await,
            Run::Waits if ours => match self.running_with_state().await? {
                Some((domain, state)) if state.paused => self.unpause(&domain).await,
                _ => Ok(()),
            },
            Run::Waits => Ok(()),
        }
    }

    /// Takes pauses away until the guest runs. A domain that is off is left alone.
    async fn let_run(&self) -> Result<(), PortError> {
        let (mut pauses, mut patience) = (PAUSES, RESUMES);
        loop {
            let Some((domain, state)) = self.running_with_state().await? else { return Ok(()) };
            let called = self.called(domain.domid);
            if state.shutdown && !state.dying {
                // xl lets a guest go on after a save that failed, which takes it a moment.
                if patience > 0 {
                    patience -= 1;
                    tokio::time::sleep(MOMENT).await;
                    continue;
                }
                let message = format!(
                    "{called} has shut down, or is suspended because xl was ended in the middle of a save, which no command of \
                     xl undoes; destroy it (xl destroy {0}), or revert it to a snapshot",
                    domain.domid
                );
                return Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message));
            }
            if !state.paused {
                return Ok(());
            }
            if pauses == 0 {
                let message = format!(
                    "{called} is paused still after {PAUSES} of `xl unpause`: another program pauses it; end that program, then \
                     xl unpause {}",
                    domain.domid
                );
                return Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message));
            }
            pauses -= 1;
            self.unpause(&domain).await?;
        }
    }

    /// Takes one pause away.
    async fn unpause(&self, domain: &Domain) -> Result<(), PortError> {
        let unpaused = self.context.toolstack.unpause(domain.domid).await;
        unpaused.map_err(|error| {
            let called = self.called(domain.domid);
            of_xl(format!("{called} cannot be unpaused; unpause it: xl unpause {}", domain.domid), error)
        })
    }

    fn off(&self) -> PortError {
        let message = format!("domain {} is off, and has no guest", self.name);
        PortError::new(PortErrorKind::NotFound, Effect::None, message)
    }
}

/// Whether a guest in this state runs no instruction: it is paused, or has shut down.
pub(super) fn stands_still(state: StateFlags) -> bool {
    !state.can_run()
}

#[async_trait]
impl Pause for XlDomain {
    async fn stop(&self) -> Result<(), PortError> {
        let (domain, state) = self.running_with_state().await?.ok_or_else(|| self.off())?;
        if stands_still(state) {
            return Ok(());
        }
        let called = self.called(domain.domid);
        let paused = self.context.toolstack.pause(domain.domid).await;
        paused.map_err(|error| of_xl(format!("{called} cannot be paused"), error))?;
        match self.running_with_state().await.map_err(after_effect)? {
            Some((now, state)) if now.domid == domain.domid && stands_still(state) => Ok(()),
            Some((now, _)) => {
                let message = format!(
                    "{} runs after `xl pause {}`: another program unpaused it or started it again; end that program, then do it again",
                    self.called(now.domid),
                    domain.domid
                );
                Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message))
            }
            None => {
                let message = format!("{called} ended while it was paused");
                Err(PortError::new(PortErrorKind::NotFound, Effect::Unknown, message))
            }
        }
    }

    async fn resume(&self) -> Result<(), PortError> {
        match self.running_with_state().await? {
            None => Err(self.off()),
            Some(_) => self.let_run().await,
        }
    }

    /// Refused: a revert of a domain of Xen's ends the domain and starts it, so no plan has a reset.
    async fn reset(&self) -> Result<(), PortError> {
        let message = format!("domain {}: {NO_RESET}", self.name);
        Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
    }
}
