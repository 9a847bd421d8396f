//! Errors of the mechanisms, in the orchestrator's words.

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

use crate::xl;

/// A failure of xenstored; its own message names the path and what to do. It is only ever read here.
pub(crate) fn of_xenstore(error: xlsnap_xenstore::Error) -> PortError {
    use xlsnap_xenstore::Kind;
    let (kind, message) = match error.kind() {
        Kind::Connect | Kind::Unanswered => (PortErrorKind::Unreachable, "xenstored cannot be asked"),
        Kind::Permission => {
            (PortErrorKind::Unreachable, "xenstored does not answer this user: run as root in dom0")
        }
        Kind::Protocol => (PortErrorKind::Corrupt, "an entry of xenstore makes no sense"),
        _ => (PortErrorKind::Failed, "xenstore cannot be read"),
    };
    PortError::new(kind, Effect::None, message).with_source(error)
}

/// A failure of xl; `message` names the domain and what could not be done.
pub(crate) fn of_xl(message: impl Into<String>, error: xl::Error) -> PortError {
    use xl::Kind;
    let kind = match error.kind() {
        Kind::NoSuchDomain => PortErrorKind::NotFound,
        Kind::NoProgram | Kind::NoXen | Kind::TimedOut => PortErrorKind::Unreachable,
        Kind::NameInUse => PortErrorKind::Busy,
        Kind::NoSpace => PortErrorKind::NoSpace,
        Kind::Malformed => PortErrorKind::Corrupt,
        Kind::Failed => PortErrorKind::Failed,
    };
    let effect = match error.effect() {
        xl::Effect::None => Effect::None,
        xl::Effect::Unknown => Effect::Unknown,
    };
    let mut message: String = message.into();
    if error.kind() == Kind::NoXen {
        message.push_str("; run as root in dom0 of a Xen host");
    }
    PortError::new(kind, effect, message).with_source(error)
}

/// A failure on a monitor before it was asked to change anything.
pub(crate) fn of_monitor(message: impl Into<String>, error: xlsnap_qmp_transport::Error) -> PortError {
    use xlsnap_qmp_transport::Kind;
    let kind = match error.kind() {
        Kind::Busy | Kind::TimedOut => PortErrorKind::Busy,
        Kind::Rejected => PortErrorKind::Failed,
        _ => PortErrorKind::Unreachable,
    };
    PortError::new(kind, Effect::None, message).with_source(error)
}

/// A failure of a file.
pub(crate) fn of_io(message: impl Into<String>, error: std::io::Error, effect: Effect) -> PortError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => PortErrorKind::NotFound,
        std::io::ErrorKind::AlreadyExists => PortErrorKind::AlreadyExists,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => PortErrorKind::NoSpace,
        _ => PortErrorKind::Failed,
    };
    PortError::new(kind, effect, message).with_source(error)
}
