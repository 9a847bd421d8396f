//! What a call runs on, and where it finds its domains.

use std::future::Future;
use std::io;
use std::path::PathBuf;

use xlsnap::{Error, Host, Options, RootInputs};

/// Runs a future to its end on this thread. It starts no thread itself.
///
/// # Errors
/// When the process may open no more files, or this thread is in the middle of another call: in a progress callback.
pub(crate) fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    if tokio::runtime::Handle::try_current().is_ok() {
        let message =
            "this thread is in the middle of another call; make this one after it, not in a callback";
        return Err(io::Error::other(message));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// The root that the command line would take: `XLSNAP_ROOT`, or the default of this user on this host.
///
/// # Errors
/// When nothing tells where it is.
pub(crate) fn default_root() -> Result<PathBuf, Error> {
    let root = xlsnap::default_root(&RootInputs {
        option: None,
        xlsnap_root: std::env::var_os("XLSNAP_ROOT"),
        xen_host: std::fs::read_to_string("/proc/xen/capabilities")
            .is_ok_and(|words| words.contains("control_d")),
        // SAFETY: geteuid has no precondition and cannot fail.
        superuser: unsafe { libc::geteuid() } == 0,
        xdg_state_home: std::env::var_os("XDG_STATE_HOME"),
        home: std::env::var_os("HOME"),
    })?;
    Ok(std::path::absolute(&root).unwrap_or(root))
}

/// The host of the design's functions, which have no argument for it.
///
/// # Errors
/// As [`default_root`].
pub(crate) fn default_host() -> Result<Host, Error> {
    Ok(Host::new(Options::new(default_root()?)))
}
