//! `xlsnap.domain-start/1`, `xlsnap.domain-stop/1`, `xlsnap.domain-status/1`.

use serde::Serialize;
use uuid::Uuid;
use xlsnap::{DomainStarted, DomainStatus, DomainStopped, PowerState, StopWay};
use xlsnap_types::model::DomainName;

use super::PendingForm;
use crate::render::time::rfc3339;

#[derive(Serialize)]
pub(crate) struct DomainStartedAnswer<'a> {
    schema: &'static str,
    domain: &'a DomainName,
    uuid: Uuid,
    pid: u32,
    since: u64,
    qemu: &'a str,
    pub(crate) socket: String,
    pub(crate) log: String,
}

impl<'a> DomainStartedAnswer<'a> {
    pub(crate) fn new(of: &'a DomainStarted) -> Self {
        Self {
            schema: "xlsnap.domain-start/1",
            domain: &of.domain,
            uuid: of.uuid,
            pid: of.pid,
            since: of.since,
            qemu: &of.qemu,
            socket: of.socket.display().to_string(),
            log: of.log.display().to_string(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DomainStoppedAnswer<'a> {
    schema: &'static str,
    domain: &'a DomainName,
    uuid: Uuid,
    way: &'static str,
    pid: Option<u32>,
    notes: &'a [String],
    took_us: u64,
}

impl<'a> DomainStoppedAnswer<'a> {
    pub(crate) fn new(of: &'a DomainStopped) -> Self {
        let way = match of.way {
            StopWay::WasOff => "was-off",
            StopWay::Powerdown => "powerdown",
            StopWay::Quit => "quit",
            StopWay::Terminate => "sigterm",
            StopWay::Kill => "sigkill",
        };
        Self {
            schema: "xlsnap.domain-stop/1",
            domain: &of.domain,
            uuid: of.uuid,
            way,
            pid: of.pid,
            notes: &of.notes,
            took_us: u64::try_from(of.took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DomainStatusAnswer<'a> {
    schema: &'static str,
    domain: &'a DomainName,
    uuid: Uuid,
    /// `off`, `silent`, or QEMU's word.
    pub(crate) state: String,
    why: Option<&'a str>,
    pid: Option<u32>,
    since: Option<u64>,
    pub(crate) started: Option<String>,
    pub(crate) socket: String,
    pub(crate) agent: Option<String>,
    log: String,
    /// An operation on the domain that waits for recovery.
    pending: Option<PendingForm<'a>>,
}

impl<'a> DomainStatusAnswer<'a> {
    pub(crate) fn new(of: &'a DomainStatus) -> Self {
        let (state, why) = match &of.state {
            PowerState::Off => ("off".to_owned(), None),
            PowerState::On(state) => (state.word().to_owned(), None),
            PowerState::Silent(why) => ("silent".to_owned(), Some(why.as_str())),
        };
        Self {
            schema: "xlsnap.domain-status/1",
            domain: &of.domain,
            uuid: of.uuid,
            state,
            why,
            pid: of.pid,
            since: of.since,
            started: of.since.and_then(rfc3339),
            socket: of.socket.display().to_string(),
            agent: of.agent.as_ref().map(|path| path.display().to_string()),
            log: of.log.display().to_string(),
            pending: of.pending.as_ref().map(PendingForm::new),
        }
    }
}
