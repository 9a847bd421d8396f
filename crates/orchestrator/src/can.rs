//! What a backend can do, and what it lacks: the one type for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Effect, Error, Kind};

/// Why something cannot be done, as a clause for people ("its format is raw").
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Why(String);

impl Why {
    /// The clause.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Why {
    fn from(clause: String) -> Self {
        Self(clause)
    }
}

impl From<&str> for Why {
    fn from(clause: &str) -> Self {
        Self(clause.to_owned())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether something can be done now.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Can {
    /// It can.
    #[default]
    Yes,
    /// It cannot, and this is why.
    No(Why),
}

impl Can {
    /// It cannot, for this reason.
    pub fn no(why: impl Into<Why>) -> Self {
        Self::No(why.into())
    }

    /// What cannot be done as long as there is a reason.
    pub fn unless(why: Option<impl Into<Why>>) -> Self {
        why.map_or(Self::Yes, Self::no)
    }

    /// Whether it can.
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }

    /// Why it cannot; `None` when it can.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No(why) => Some(why.as_str()),
        }
    }
}

/// A port that a backend has, or lacks.
///
/// The port may borrow: `dyn Port` in it lives as long as it does (hence the bound, which Rust's default for `dyn` goes by).
///
/// A port that is lacking has one behaviour everywhere: planning refuses what needs it, by name ([`Port::need`]).
pub enum Port<'a, T: ?Sized + 'a> {
    /// The backend has it.
    Has(&'a T),
    /// The backend lacks it; why, as a clause.
    Lacks(&'static str),
}

impl<T: ?Sized> Clone for Port<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Port<'_, T> {}

impl<T: ?Sized> fmt::Debug for Port<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(_) => f.write_str("Has"),
            Self::Lacks(why) => f.debug_tuple("Lacks").field(why).finish(),
        }
    }
}

impl<'a, T: ?Sized> Port<'a, T> {
    /// Whether the backend has it.
    pub fn can(&self) -> Can {
        match self {
            Self::Has(_) => Can::Yes,
            Self::Lacks(why) => Can::no(*why),
        }
    }

    /// The port, where the backend has it.
    pub fn get(self) -> Option<&'a T> {
        match self {
            Self::Has(port) => Some(port),
            Self::Lacks(_) => None,
        }
    }

    /// The port, or the refusal that names what needs it: "`subject` cannot be done: why".
    ///
    /// # Errors
    /// [`Kind::Refused`] where the backend lacks it.
    pub fn need(self, subject: &str) -> Result<&'a T, Error> {
        match self {
            Self::Has(port) => Ok(port),
            Self::Lacks(why) => Err(Error::new(Kind::Refused, Effect::None, format!("{subject}: {why}"))
                .with_advice("use the backend that made the snapshot, or leave that part out")),
        }
    }
}
