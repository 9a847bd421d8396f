use xlsnap_testkit::wire::check;

/// Bytes from a QMP monitor: the session takes any, says the same however they are cut, and ends each call once.
pub fn qmp_bytes(data: &[u8]) {
    check::any_bytes(data);
}

/// What may happen to a QMP session, in any order: it says what a small model says.
pub fn qmp_ops(data: &[u8]) {
    check::any_operations(data);
}
