//! From the errors of the layers below to this crate's.

use xlsnap_conf_store as store;
use xlsnap_orchestrator::{Effect, Error, Kind, PortError};

/// A refusal before any effect.
pub(crate) fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Refused, Effect::None, message)
}

/// Something that is not there.
pub(crate) fn not_found(message: impl Into<String>) -> Error {
    Error::new(Kind::NotFound, Effect::None, message)
}

/// A failure of the store or of a small durable file. Such a change is atomic; only its last flush can leave it open whether a
/// power cut would undo it.
pub(crate) fn from_store(error: store::Error, message: impl Into<String>) -> Error {
    let advice = match error.kind() {
        store::Kind::Busy => Some("wait for it to end, or wait longer"),
        store::Kind::Newer => Some("use the newer xlsnap that wrote it"),
        store::Kind::NoSpace => Some("make room on that file system, then do it again"),
        _ => None,
    };
    let (kind, effect) = (error.kind().into(), error.effect().into());
    let error = Error::new(kind, effect, message).with_source(error);
    match advice {
        Some(advice) => error.with_advice(advice),
        None => error,
    }
}

/// A failure of a backend.
pub(crate) fn from_port(error: PortError, message: impl Into<String>) -> Error {
    Error::new(error.kind.into(), error.effect, message).with_source(error)
}
