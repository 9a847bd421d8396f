//! Stopping the guest and letting it run, by xl.
//!
//! Pauses count (measured, Xen 4.17: two of `xl pause` need two of `xl unpause`), so the state is looked at before each.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use xlsnap_orchestrator::{Effect, Pause, PortError, PortErrorKind, Run};
use xlsnap_types::model::StateFlags;

use crate::error::of_xl;

use super::XlDomain;
use super::guest::GuestOf;
use super::power::NO_RESET;

/// How many pauses are taken away from a guest that is to run: more than there are programs that pause it.
const PAUSES: usize = 8;
/// How often it is looked whether a guest goes on after a save that failed, and how long between.
const RESUMES: usize = 50;
const MOMENT: Duration = Duration::from_millis(200);

impl XlDomain {
    /// Puts a guest back to what it did before: one that ran runs. Of one that was paused, the pause that `xl save -p` added is
    /// taken away where that pause is certain, once at most, whatever xl says, since the next one would be another program's. A domain that
    /// is off is left alone.
    ///
    /// # Cancel safety
    /// Again is no error: a pause counts as taken away from when xl is told to.
    pub(super) async fn put_back(&self, was: Run) -> Result<(), PortError> {
        let Some((domain, state)) = self.running_with_state().await? else {
            self.save_pauses.store(false, Ordering::Relaxed);
            return Ok(());
        };
        let guest = self.guest_of(domain.domid);
        match was {
            Run::Runs => {
                guest.let_run().await?;
                self.save_pauses.store(false, Ordering::Relaxed);
                Ok(())
            }
            Run::Waits if state.paused && self.save_pauses.swap(false, Ordering::Relaxed) => {
                let unpaused = guest.unpause().await;
                if unpaused.as_ref().is_err_and(|error| error.effect == Effect::None) {
                    self.save_pauses.store(true, Ordering::Relaxed);
                }
                unpaused
            }
            Run::Waits => Ok(()),
        }
    }

    fn off(&self) -> PortError {
        let message = format!("domain {} is off, and has no guest", self.name);
        PortError::new(PortErrorKind::NotFound, Effect::None, message)
    }
}

impl GuestOf {
    /// Takes pauses away until the guest runs. A domain that is off is left alone.
    async fn let_run(&self) -> Result<(), PortError> {
        let (mut pauses, mut patience) = (PAUSES, RESUMES);
        loop {
            // Once a pause is taken away, the guest may run.
            let told = |e: PortError| if pauses < PAUSES { e.after_effect() } else { e };
            let Some(state) = self.flags().await.map_err(told)? else { return Ok(()) };
            let Self { called, domid, .. } = self;
            if state.shutdown && !state.dying {
                // xl lets a guest go on after a save that failed, which takes it a moment.
                if patience > 0 {
                    patience -= 1;
                    tokio::time::sleep(MOMENT).await;
                    continue;
                }
                let message = format!(
                    "{called} has shut down, or is suspended because xl was ended in the middle of a save, which no command of \
                     xl undoes; destroy it (xl destroy {domid}), or revert it to a snapshot"
                );
                return Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message));
            }
            if !state.paused {
                return Ok(());
            }
            if pauses == 0 {
                let message = format!(
                    "{called} is paused still after {PAUSES} of `xl unpause`: another program pauses it; end that program, then \
                     xl unpause {domid}"
                );
                return Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message));
            }
            self.unpause().await.map_err(told)?;
            pauses -= 1;
        }
    }

    /// Takes one pause away.
    async fn unpause(&self) -> Result<(), PortError> {
        let Self { toolstack, called, domid } = self;
        let failed =
            |error| of_xl(format!("{called} cannot be unpaused; unpause it: xl unpause {domid}"), error);
        toolstack.unpause(*domid).await.map_err(failed)
    }

    fn ended(&self, effect: Effect) -> PortError {
        PortError::new(PortErrorKind::NotFound, effect, format!("{} has ended", self.called))
    }
}

/// Whether a guest in this state runs no instruction: it is paused, or has shut down.
pub(super) fn stands_still(state: StateFlags) -> bool {
    !state.can_run()
}

#[async_trait]
impl Pause for GuestOf {
    async fn stop(&self) -> Result<(), PortError> {
        let state = self.flags().await?.ok_or_else(|| self.ended(Effect::None))?;
        if stands_still(state) {
            return Ok(());
        }
        let Self { toolstack, called, domid } = self;
        let paused = toolstack.pause(*domid).await;
        paused.map_err(|error| of_xl(format!("{called} cannot be paused"), error))?;
        match self.flags().await.map_err(PortError::after_effect)? {
            Some(state) if stands_still(state) => Ok(()),
            Some(_) => {
                let message = format!(
                    "{called} runs after `xl pause {domid}`: another program unpaused it; end that program, then do it again"
                );
                Err(PortError::new(PortErrorKind::Busy, Effect::Unknown, message))
            }
            None => Err(self.ended(Effect::Unknown)),
        }
    }

    async fn resume(&self) -> Result<(), PortError> {
        self.let_run().await
    }

    /// Refused: a revert of a domain of Xen's ends the domain and starts it, so no plan has a reset.
    async fn reset(&self) -> Result<(), PortError> {
        let message = format!("{}: {NO_RESET}", self.called);
        Err(PortError::new(PortErrorKind::Refused, Effect::None, message))
    }
}

#[async_trait]
impl Pause for XlDomain {
    async fn stop(&self) -> Result<(), PortError> {
        let domain = self.running().await?.ok_or_else(|| self.off())?;
        self.guest_of(domain.domid).stop().await
    }

    async fn resume(&self) -> Result<(), PortError> {
        let domain = self.running().await?.ok_or_else(|| self.off())?;
        self.guest_of(domain.domid).resume().await
    }

    async fn reset(&self) -> Result<(), PortError> {
        let domain = self.running().await?.ok_or_else(|| self.off())?;
        self.guest_of(domain.domid).reset().await
    }
}
