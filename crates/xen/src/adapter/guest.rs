//! Whether the domain runs.

use std::sync::Arc;

use async_trait::async_trait;
use xlsnap_orchestrator::{Effect, Guest, GuestState, PortError, PortErrorKind};
use xlsnap_types::model::StateFlags;

use crate::domains::Domain;
use crate::error::of_xl;
use crate::{Domid, Toolstack};

use super::XlDomain;

/// How often a domain may be another one when it is looked at again.
const ATTEMPTS: usize = 5;

impl XlDomain {
    /// The domain that runs with its state, as xl says: QEMU's own goes on saying that a paused domain runs (measured).
    pub(super) async fn running_with_state(&self) -> Result<Option<(Domain, StateFlags)>, PortError> {
        for _ in 0..ATTEMPTS {
            let Some(domain) = self.running().await? else { return Ok(None) };
            if let Some(state) = self.guest_of(domain.domid).flags().await? {
                return Ok(Some((domain, state)));
            }
            // It ended between the two; it may be there again, with another domid.
        }
        let message = format!("xenstore has domain {}, and xl has not", self.name);
        Err(PortError::new(PortErrorKind::Unreachable, Effect::None, message))
    }
}

/// The guest of a domain as long as that has its domid.
pub(super) struct GuestOf {
    pub(super) toolstack: Arc<dyn Toolstack>,
    pub(super) domid: Domid,
    /// "domain pv1 (domid 3)".
    pub(super) called: String,
}

impl XlDomain {
    pub(super) fn guest_of(&self, domid: Domid) -> GuestOf {
        GuestOf { toolstack: Arc::clone(&self.context.toolstack), domid, called: self.called(domid) }
    }
}

impl GuestOf {
    /// Its state; `None` where the domain has ended.
    pub(super) async fn flags(&self) -> Result<Option<StateFlags>, PortError> {
        let state = self.toolstack.state(self.domid).await;
        let state =
            state.map_err(|error| of_xl(format!("the state of {} cannot be told", self.called), error))?;
        // None of the letters: it waits for its turn on a processor.
        Ok(state.map(|state| {
            if state == StateFlags::default() { StateFlags { running: true, ..state } } else { state }
        }))
    }
}

#[async_trait]
impl Guest for GuestOf {
    async fn state(&self) -> Result<GuestState, PortError> {
        Ok(self.flags().await?.map_or(GuestState::Off, GuestState::On))
    }
}

#[async_trait]
impl Guest for XlDomain {
    async fn state(&self) -> Result<GuestState, PortError> {
        Ok(self.running_with_state().await?.map_or(GuestState::Off, |(_, state)| GuestState::On(state)))
    }
}
