//! Errors of the mechanisms, in the orchestrator's words.

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

/// A failure of qemu-img; `message` names the disk and what could not be done.
pub(crate) fn of_qemu_img(message: String, error: xlsnap_qemu_img::Error) -> PortError {
    use xlsnap_qemu_img::Kind;
    let kind = match error.kind() {
        Kind::NotFound => PortErrorKind::NotFound,
        Kind::Locked => PortErrorKind::Busy,
        Kind::Unsupported | Kind::Ambiguous => PortErrorKind::Refused,
        Kind::Corrupt => PortErrorKind::Corrupt,
        Kind::NoSpace => PortErrorKind::NoSpace,
        Kind::NoProgram => PortErrorKind::Unreachable,
        _ => PortErrorKind::Failed,
    };
    let effect = match error.effect() {
        xlsnap_qemu_img::Effect::None => Effect::None,
        _ => Effect::Unknown,
    };
    PortError::new(kind, effect, message).with_source(error)
}

/// A failure on a QMP monitor; `message` names the disk and what could not be done.
pub(crate) fn of_qmp(message: String, error: xlsnap_qmp_transport::Error) -> PortError {
    use xlsnap_qmp_transport::Kind;
    let kind = match error.kind() {
        Kind::Rejected => rejection(&error.to_string()),
        Kind::Busy => PortErrorKind::Busy,
        _ => PortErrorKind::Unreachable,
    };
    let effect = match error.effect() {
        xlsnap_qmp_transport::Effect::None => Effect::None,
        xlsnap_qmp_transport::Effect::Done => Effect::Done,
        xlsnap_qmp_transport::Effect::Unknown => Effect::Unknown,
    };
    PortError::new(kind, effect, message).with_source(error)
}

/// The same for a command that only looks.
pub(crate) fn of_query(message: String, error: xlsnap_qmp_transport::Error) -> PortError {
    let mut error = of_qmp(message, error);
    error.effect = Effect::None;
    error
}

/// A failure on a guest agent's socket; `message` says what could not be done.
pub(crate) fn of_agent(message: String, error: xlsnap_guest_agent::Error) -> PortError {
    use xlsnap_guest_agent::Kind;
    let kind = match error.kind() {
        Kind::Busy | Kind::Frozen => PortErrorKind::Busy,
        Kind::Rejected if error.class() == Some("CommandNotFound") => PortErrorKind::Refused,
        Kind::Rejected => PortErrorKind::Failed,
        _ => PortErrorKind::Unreachable,
    };
    let effect = match error.effect() {
        xlsnap_guest_agent::Effect::None => Effect::None,
        xlsnap_guest_agent::Effect::Done => Effect::Done,
        xlsnap_guest_agent::Effect::Unknown => Effect::Unknown,
    };
    PortError::new(kind, effect, message).with_source(error)
}

/// A failure on a memory file, whose own text names the file. The one mapping for all adapters.
pub fn of_memory_file(error: xlsnap_memory_file::Error) -> PortError {
    use xlsnap_memory_file::Kind;
    let kind = match error.kind() {
        Kind::NotFound => PortErrorKind::NotFound,
        Kind::AlreadyExists => PortErrorKind::AlreadyExists,
        Kind::NoSpace => PortErrorKind::NoSpace,
        Kind::Refused => PortErrorKind::Refused,
        Kind::Foreign | Kind::Damaged => PortErrorKind::Corrupt,
        _ => PortErrorKind::Failed,
    };
    let effect = match error.effect() {
        xlsnap_memory_file::Effect::None => Effect::None,
        xlsnap_memory_file::Effect::Done => Effect::Done,
        xlsnap_memory_file::Effect::Unknown => Effect::Unknown,
    };
    let mapped = PortError::new(kind, effect, error.to_string());
    match error.into_source() {
        Some(source) => mapped.with_source(source),
        None => mapped,
    }
}

/// What QEMU means by a refusal. Its class is `GenericError` for all of these: the text is all there is. The texts are those
/// of 7.2 and 10.0; one that is not known here is a failure without effect.
fn rejection(desc: &str) -> PortErrorKind {
    const MEANINGS: [(&str, PortErrorKind); 14] = [
        ("already exists on device", PortErrorKind::AlreadyExists),
        ("does not exist on device", PortErrorKind::NotFound),
        ("Cannot find device=", PortErrorKind::NotFound),
        ("Failed to find node with node-name", PortErrorKind::NotFound),
        ("does not support internal snapshots", PortErrorKind::Refused),
        ("Failed to get a snapshot list", PortErrorKind::Refused),
        ("is read only", PortErrorKind::Refused),
        ("has no medium", PortErrorKind::Refused),
        ("Need a root block node", PortErrorKind::Busy),
        ("is busy:", PortErrorKind::Busy),
        ("is in use", PortErrorKind::Busy),
        ("\" lock", PortErrorKind::Busy),
        ("No space left on device", PortErrorKind::NoSpace),
        ("is corrupt", PortErrorKind::Corrupt),
    ];
    // "No space left" stands behind a snapshot's or a file's name, which is not ours to trust: the last match counts.
    let place = |(text, kind): (&str, PortErrorKind)| desc.rfind(text).map(|at| (at, kind));
    MEANINGS
        .into_iter()
        .filter_map(place)
        .max_by_key(|(at, _)| *at)
        .map_or(PortErrorKind::Failed, |(_, kind)| kind)
}
