//! Where the store is.

use std::ffi::OsString;
use std::path::PathBuf;

use super::FsStore;
use crate::{Error, Kind};

/// What decides where the store is. All of it is given, nothing is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RootInputs {
    /// The value of `--root`.
    pub option: Option<PathBuf>,
    /// `XLSNAP_ROOT`.
    pub xlsnap_root: Option<OsString>,
    /// Whether this is a Xen host's control domain.
    pub xen_host: bool,
    /// Whether the effective user is root.
    pub superuser: bool,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
}

impl FsStore {
    /// The root to use: `--root`; else `XLSNAP_ROOT`; else `/var/lib/xen/snapshots` on a Xen host, `/var/lib/xlsnap` for
    /// root, and `xlsnap` under `XDG_STATE_HOME` or `~/.local/state` for others.
    ///
    /// An empty variable is as good as none, and so is a relative `XDG_STATE_HOME` or `HOME` (XDG Base Directory
    /// Specification 0.8: "All paths set in these environment variables must be absolute").
    ///
    /// # Errors
    /// [`Kind::NotFound`] when nothing tells.
    pub fn default_root(inputs: &RootInputs) -> Result<PathBuf, Error> {
        let given = |value: &Option<OsString>| value.clone().filter(|v| !v.is_empty()).map(PathBuf::from);
        let absolute = |value: &Option<OsString>| given(value).filter(|path| path.is_absolute());
        if let Some(root) = inputs.option.clone().or_else(|| given(&inputs.xlsnap_root)) {
            return Ok(root);
        }
        if inputs.xen_host {
            return Ok(PathBuf::from("/var/lib/xen/snapshots"));
        }
        if inputs.superuser {
            return Ok(PathBuf::from("/var/lib/xlsnap"));
        }
        absolute(&inputs.xdg_state_home)
            .or_else(|| absolute(&inputs.home).map(|home| home.join(".local/state")))
            .map(|state| state.join("xlsnap"))
            .ok_or_else(|| {
                let message = "neither XDG_STATE_HOME nor HOME is set to an absolute path, so there is no place for \
                               snapshot records: give --root or XLSNAP_ROOT";
                Error::new(Kind::NotFound, message)
            })
    }
}
