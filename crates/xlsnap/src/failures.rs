//! From the errors of the layers below to this crate's.

use xlsnap_conf_store as store;
use xlsnap_orchestrator::{Effect, Error, Kind};

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
    let (kind, advice) = match error.kind() {
        store::Kind::NotFound => (Kind::NotFound, None),
        store::Kind::AlreadyExists => (Kind::Refused, None),
        store::Kind::Busy => (Kind::Busy, Some("wait for it to end, or wait longer")),
        store::Kind::Malformed | store::Kind::Denied => (Kind::Refused, None),
        store::Kind::Newer => (Kind::Refused, Some("use the newer xlsnap that wrote it")),
        store::Kind::NoSpace => (Kind::Failed, Some("make room on that file system, then do it again")),
        _ => (Kind::Failed, None),
    };
    let effect = match error.effect() {
        store::Effect::None => Effect::None,
        store::Effect::Unknown => Effect::Unknown,
    };
    let error = Error::new(kind, effect, message).with_source(error);
    match advice {
        Some(advice) => error.with_advice(advice),
        None => error,
    }
}
