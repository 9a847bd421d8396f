//! Paths of nodes, checked once.

use std::fmt;
use std::str::FromStr;

use crate::{Effect, Error, Kind};

/// The absolute path of a node: `/`, or `/local/domain/3/name`.
///
/// Its parts have ASCII letters, digits, `-`, `_` and `@`; nothing else is a path to xenstored, whatever a guest says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// The longest path, in bytes: `XENSTORE_ABS_PATH_MAX`.
    pub const MAX_LENGTH: usize = 3072;
    /// The most parts of a path. It is ours: libxl's own paths have at most ten.
    pub const MAX_DEPTH: usize = 64;

    /// Checks a path.
    ///
    /// # Errors
    /// [`Kind::Rejected`] when xenstored would refuse it, and [`Kind::Limit`] when it is too long or too deep.
    pub fn new(path: impl Into<String>) -> Result<Self, Error> {
        let path = path.into();
        // Both limits first: the message shows the path only when it is short enough to be shown.
        if path.len() > Self::MAX_LENGTH {
            let (length, limit) = (path.len(), Self::MAX_LENGTH);
            let message = format!("a xenstore path has {length} bytes; the limit is {limit}");
            return Err(Error::new(Kind::Limit, Effect::None, message));
        }
        let parts = path.strip_prefix('/').ok_or_else(|| invalid(&path, "it does not begin with '/'"))?;
        if parts.is_empty() {
            return Ok(Self(path));
        }
        for part in parts.split('/') {
            check_name(part).map_err(|why| invalid(&path, why))?;
        }
        if parts.split('/').count() > Self::MAX_DEPTH {
            let message = format!("a xenstore path has more than {} parts", Self::MAX_DEPTH);
            return Err(Error::new(Kind::Limit, Effect::None, message));
        }
        Ok(Self(path))
    }

    /// The root, `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The node below this one to which `relative` leads: a child's name, or several parts with `/` between.
    ///
    /// # Errors
    /// As [`Path::new`].
    pub fn join(&self, relative: &str) -> Result<Self, Error> {
        let separator = if self.is_root() { "" } else { "/" };
        Self::new(format!("{}{separator}{relative}", self.0))
    }

    /// The node above this one; `None` of the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(Self::root()),
            (parent, _) => Some(Self(parent.into())),
        }
    }

    /// Its last part; empty of the root.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// Whether this is `above` or a node below it.
    pub fn is_within(&self, above: &Self) -> bool {
        above.is_root()
            || self.0.strip_prefix(&above.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Path {
    type Err = Error;

    fn from_str(path: &str) -> Result<Self, Error> {
        Self::new(path)
    }
}

/// What a watch can be set on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Watchpoint {
    /// A node and everything below it; it need not exist.
    Node(Path),
    /// Every domain that appears: `@introduceDomain`.
    DomainsAppear,
    /// Every domain that crashes, shuts down or is destroyed: `@releaseDomain`. It does not say which.
    DomainsVanish,
}

impl Watchpoint {
    /// Reads it from the wire. A longer special name (`@releaseDomain/5`) is the same event with the domain's number.
    pub(crate) fn from_wire(text: &str) -> Result<Self, Error> {
        match text.split('/').next() {
            Some("@introduceDomain") => Ok(Self::DomainsAppear),
            Some("@releaseDomain") => Ok(Self::DomainsVanish),
            _ => Path::new(text).map(Self::Node),
        }
    }
}

impl fmt::Display for Watchpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(path) => path.fmt(f),
            Self::DomainsAppear => f.write_str("@introduceDomain"),
            Self::DomainsVanish => f.write_str("@releaseDomain"),
        }
    }
}

impl From<Path> for Watchpoint {
    fn from(path: Path) -> Self {
        Self::Node(path)
    }
}

/// Whether `name` can be one part of a path; else why not.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it has an empty part");
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@".contains(&byte);
    if name.bytes().all(is_allowed) { Ok(()) } else { Err("only letters, digits and -_@ are allowed") }
}

fn invalid(path: &str, why: &str) -> Error {
    const SHOWN: usize = 100;
    let shown: String = path.chars().take(SHOWN).flat_map(char::escape_default).collect();
    let more = if path.chars().count() > SHOWN { "..." } else { "" };
    Error::new(Kind::Rejected, Effect::None, format!("'{shown}{more}' is not a xenstore path: {why}"))
}
