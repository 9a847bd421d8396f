//! How far a long step is, for those that find the domain busy.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Execution;
use crate::session::Session;
use crate::step::{Does, Step};
use crate::{Clock, Progress};

/// How often it is said.
const EVERY: Duration = Duration::from_secs(1);

/// The progress of a step, told to the processes that wait for the domain too.
pub(super) struct Telling<'e> {
    session: &'e Session<'e>,
    clock: &'e dyn Clock,
    progress: &'e dyn Progress,
    does: &'e Does,
    told: Mutex<Option<Duration>>,
}

impl<'e> Execution<'e> {
    pub(super) fn telling<'t>(&'t self, does: &'t Does) -> Telling<'t> {
        Telling {
            session: self.session,
            clock: self.ports.clock,
            progress: self.ports.progress,
            does,
            told: Mutex::new(None),
        }
    }
}

impl Progress for Telling<'_> {
    fn step(&self, number: usize, total: usize, what: &str) {
        self.progress.step(number, total, what);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.progress.bytes(done, total);
        let now = self.clock.monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| now.saturating_sub(told) < EVERY) {
            return;
        }
        *told = Some(now);
        let step = Step { domain: self.session.domain.uuid, does: self.does.clone() };
        let Some(what) = step.text().map(|text| text.what) else { return };
        let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
        self.session.tell(&format!("{what}, {done}{of} bytes are done"));
    }
}
