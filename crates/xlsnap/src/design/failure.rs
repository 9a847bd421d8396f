//! What the design's functions fail with: libxl's codes.

use std::fmt;

use crate::{Error, Kind};

/// libxl's code of a failure, as `<libxl.h>` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// `ERROR_FAIL` (-3): it failed or was refused, and all is as it was.
    Fail,
    /// `ERROR_INVAL` (-6): an argument is not valid.
    Inval,
    /// `ERROR_BADFAIL` (-7): it failed half-way, or it is not known how far; or an interrupted operation on the domain cannot be
    /// finished now.
    BadFail,
    /// `ERROR_LOCK_FAIL` (-15): another process works on the domain, or has one of its images.
    LockFail,
    /// `ERROR_DOMAIN_NOTFOUND` (-21): no domain has that domid.
    DomainNotFound,
    /// `ERROR_NOTFOUND` (-23): there is no such snapshot or disk.
    NotFound,
}

impl Code {
    /// The number.
    pub fn number(self) -> i32 {
        match self {
            Self::Fail => -3,
            Self::Inval => -6,
            Self::BadFail => -7,
            Self::LockFail => -15,
            Self::DomainNotFound => -21,
            Self::NotFound => -23,
        }
    }

    /// The code of an operation's failure on a domain that is there.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            Kind::NotFound => Self::NotFound,
            Kind::Busy => Self::LockFail,
            Kind::RecoveryPending => Self::BadFail,
            _ => Self::Fail,
        }
    }
}

/// One of the design's functions failed.
#[derive(Debug)]
pub struct Failure {
    /// libxl's code of it.
    pub code: Code,
    /// What failed, and what is known of its effect.
    pub error: Error,
}

impl Failure {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { code: Code::Inval, error: crate::failures::refused(message) }
    }

    /// The same with its cause.
    pub(super) fn because(self, why: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { error: self.error.with_source(why), ..self }
    }

    /// The same with what to do about it.
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { error: self.error.with_advice(advice), ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { code: Code::of(&error), error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
