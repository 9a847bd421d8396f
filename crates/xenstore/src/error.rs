//! What can go wrong between a client and xenstored.

/// What is known of the effect that a failed request had on the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing changed.
    None,
    /// It may have changed: look.
    Unknown,
}

/// The kind of an [`Error`], to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No connection could be made: this is no Xen host, or not its control domain.
    Connect,
    /// Only the control domain's root may do this.
    Permission,
    /// There is no such node.
    NotFound,
    /// A quota of xenstored, or a limit of the protocol or of this client.
    Limit,
    /// Others changed what a transaction had used (`EAGAIN`), at each attempt.
    Conflict,
    /// The request is not valid, or xenstored refused it for another reason.
    Rejected,
    /// What came is not the protocol of xenstore.
    Protocol,
    /// No reply: not in time, or the connection was lost.
    Unanswered,
}

/// An error of a xenstore client.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    effect: Effect,
    message: String,
    code: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` names the socket, or the request and its path.
    pub fn new(kind: Kind, effect: Effect, message: impl Into<String>) -> Self {
        Self { kind, effect, message: message.into(), code: None, source: None }
    }

    /// The error that xenstored answered to `request` with: `code` is its name, as `ENOENT`.
    pub fn refused(request: &str, code: &str, effect: Effect) -> Self {
        let (kind, why) = match code {
            "ENOENT" => (Kind::NotFound, "there is no such node".to_owned()),
            "EACCES" | "EPERM" => {
                (Kind::Permission, format!("xenstored denies it ({code}); run as root in dom0"))
            }
            "EQUOTA" | "ENOSPC" | "E2BIG" => (
                Kind::Limit,
                format!(
                    "a quota of xenstored is used up ({code}); remove nodes, or raise it where xenstored is started"
                ),
            ),
            "EAGAIN" => (
                Kind::Conflict,
                "others changed what the transaction had used; do it again from its start".to_owned(),
            ),
            _ => (Kind::Rejected, format!("xenstored refused it: {code}")),
        };
        let message = format!("{request}: {why}");
        Self { kind, effect, message, code: Some(code.to_owned()), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is known of the request's effect. Of a request inside a transaction it is none: only the commit has one.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The name of the error that xenstored answered with: `ENOENT`, `EACCES`, ...; `None` when it did not answer.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}
