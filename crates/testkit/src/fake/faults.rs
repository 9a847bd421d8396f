//! Faults: which call fails, and how.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use xlsnap_conf_store as conf_store;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

/// Whether the effect of a failing call happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// It does not.
    Before,
    /// It does, and then the call fails.
    After,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It says that it had no effect, and had none.
    Refused,
    /// It does not know whether it had an effect: a connection was lost. The next call works again.
    Lost(Moment),
    /// The process that asks dies: every later call fails until [`Faults::restart`].
    Crash(Moment),
    /// The process that has the disks dies within a transaction after so many of its disks, and is off from then on. Any
    /// other call is [`Fault::Lost`] before its effect.
    Torn(usize),
    /// The same, and the process that asks dies too: a power cut.
    PowerCut(usize),
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method, as `port.method`.
    pub method: &'static str,
    /// The fault it met.
    pub fault: Option<Fault>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    planned: BTreeMap<usize, Fault>,
    dead: bool,
}

/// The faults of one backend. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

/// What a call that is about to be made does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Works,
    /// Fails without an effect, and knows it.
    Refused,
    /// Fails without an effect, not knowing.
    LostBefore,
    /// Has its effect and fails, not knowing.
    LostAfter,
    /// A transaction has its effect on so many disks; the process that has the disks dies.
    Torn(usize),
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    /// Makes the call with this number, counted from 0 since the last [`Faults::clear`], fail.
    pub fn plan(&self, call: usize, fault: Fault) {
        self.state().planned.insert(call, fault);
    }

    /// Forgets the calls so far and the faults to come. Does not restart.
    pub fn clear(&self) {
        let mut state = self.state();
        state.calls.clear();
        state.planned.clear();
    }

    /// The calls since the last [`Faults::clear`].
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Starts the process that asks anew, after a crash.
    pub fn restart(&self) {
        self.state().dead = false;
    }

    /// Whether the process that asks is dead.
    pub fn crashed(&self) -> bool {
        self.state().dead
    }

    pub(super) fn meet(&self, method: &'static str) -> Verdict {
        let mut state = self.state();
        if state.dead {
            return Verdict::LostBefore;
        }
        let fault = state.planned.get(&state.calls.len()).copied();
        state.calls.push(Call { method, fault });
        // These are done by the process that has the disks, so that it can die of them.
        let process = [
            "layers.merge",
            "layers.stream",
            "layers.swap",
            "names.detach",
            "memory.",
            "inside.",
            "power.",
            "pause.",
            "release.",
        ];
        let transaction = method == "disks.snapshot" || process.iter().any(|port| method.starts_with(port));
        match fault {
            None => Verdict::Works,
            Some(Fault::Refused) => Verdict::Refused,
            Some(Fault::Lost(Moment::Before)) => Verdict::LostBefore,
            Some(Fault::Lost(Moment::After)) => Verdict::LostAfter,
            Some(Fault::Torn(done)) if transaction => Verdict::Torn(done),
            Some(Fault::Torn(_)) => Verdict::LostBefore,
            Some(Fault::PowerCut(done)) => {
                state.dead = true;
                if transaction { Verdict::Torn(done) } else { Verdict::LostBefore }
            }
            Some(Fault::Crash(moment)) => {
                state.dead = true;
                match moment {
                    Moment::Before => Verdict::LostBefore,
                    Moment::After => Verdict::LostAfter,
                }
            }
        }
    }

    /// Runs a port's call under the faults.
    pub(super) fn port<T>(
        &self,
        method: &'static str,
        effect: impl FnOnce() -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        self.by(self.meet(method), method, effect)
    }

    /// Runs a port's call whose verdict was asked for.
    pub(super) fn by<T>(
        &self,
        verdict: Verdict,
        method: &'static str,
        effect: impl FnOnce() -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let lost = || {
            Err(PortError::new(
                PortErrorKind::Unreachable,
                Effect::Unknown,
                format!("{method}: the connection was lost"),
            ))
        };
        match verdict {
            Verdict::Works => effect(),
            Verdict::Refused => Err(PortError::new(
                PortErrorKind::Failed,
                Effect::None,
                format!("{method}: it fails by request"),
            )),
            Verdict::LostBefore | Verdict::Torn(_) => lost(),
            Verdict::LostAfter => {
                // Its own refusal is lost with the connection too.
                let _ = effect();
                lost()
            }
        }
    }

    /// Runs a store's call under the faults.
    pub(super) fn store<T>(
        &self,
        method: &'static str,
        effect: impl FnOnce() -> Result<T, conf_store::Error>,
    ) -> Result<T, conf_store::Error> {
        let failed = |known| {
            Err(conf_store::Error::new(conf_store::Kind::Io, format!("{method}: it fails by request"))
                .with_effect(known))
        };
        match self.meet(method) {
            Verdict::Works => effect(),
            Verdict::LostAfter => {
                let _ = effect();
                failed(conf_store::Effect::Unknown)
            }
            Verdict::LostBefore | Verdict::Torn(_) => failed(conf_store::Effect::Unknown),
            Verdict::Refused => failed(conf_store::Effect::None),
        }
    }
}
