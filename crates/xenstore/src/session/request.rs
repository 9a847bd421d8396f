//! What a client asks.

use std::fmt;

use bytes::Bytes;

use super::wire::{Header, MAX_PAYLOAD, Type};
use crate::{Effect, Error, Kind, Path, Watchpoint};

/// The number of a transaction that was begun; valid on its own connection, until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub(super) u32);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// The value of a node.
    Read(Path),
    /// The names of a node's children, when they fit into one message.
    Directory(Path),
    /// Some names of a node's children, from this offset in bytes on.
    DirectoryPart(Path, u32),
    /// Sets the value of a node.
    Write(Path, Vec<u8>),
    /// Makes a node.
    MakeDirectory(Path),
    /// Removes a node and all below it.
    Remove(Path),
    /// Sets a watch with this token: events carry it. No other watch of the connection should have it.
    Watch(Watchpoint, String),
    /// Ends the watch with this token.
    Unwatch(Watchpoint, String),
    /// Begins a transaction. It cannot be inside of one.
    Begin,
    /// Ends the transaction in which it is sent.
    End {
        /// With its changes; else it is discarded.
        commit: bool,
    },
    /// Where the nodes of this domain lie.
    DomainPath(u16),
}

impl Request {
    pub(super) fn kind(&self) -> Type {
        match self {
            Self::Read(_) => Type::Read,
            Self::Directory(_) => Type::Directory,
            Self::DirectoryPart(..) => Type::DirectoryPart,
            Self::Write(..) => Type::Write,
            Self::MakeDirectory(_) => Type::Mkdir,
            Self::Remove(_) => Type::Rm,
            Self::Watch(..) => Type::Watch,
            Self::Unwatch(..) => Type::Unwatch,
            Self::Begin => Type::TransactionStart,
            Self::End { .. } => Type::TransactionEnd,
            Self::DomainPath(_) => Type::GetDomainPath,
        }
    }

    /// What is known of its effect when it was sent and not answered. Inside a transaction only the commit has one.
    pub(super) fn effect_unanswered(&self, within: Option<TransactionId>) -> Effect {
        match self {
            Self::Write(..) | Self::MakeDirectory(_) | Self::Remove(_) if within.is_none() => Effect::Unknown,
            Self::End { commit: true } => Effect::Unknown,
            _ => Effect::None,
        }
    }

    /// The message with this request. A token with a NUL, or a message that is too long, is refused.
    pub(super) fn encode(&self, id: u32, within: Option<TransactionId>) -> Result<Bytes, Error> {
        let payload = self.payload();
        if let Self::Watch(_, token) | Self::Unwatch(_, token) = self
            && token.contains('\0')
        {
            let message = format!("{self}: not sent: the token has a NUL");
            return Err(Error::new(Kind::Rejected, Effect::None, message));
        }
        if payload.len() > MAX_PAYLOAD {
            let length = payload.len();
            let message = format!(
                "{self}: not sent: path and value have {length} bytes; xenstore's limit is {MAX_PAYLOAD}"
            );
            return Err(Error::new(Kind::Limit, Effect::None, message));
        }
        let length = payload.len().try_into().expect("it is at most MAX_PAYLOAD");
        let transaction = within.map_or(0, |transaction| transaction.0);
        let header = Header { kind: self.kind() as u32, id, transaction, length };
        Ok([&header.encode()[..], &payload].concat().into())
    }

    fn payload(&self) -> Vec<u8> {
        match self {
            Self::Read(path) | Self::Directory(path) | Self::MakeDirectory(path) | Self::Remove(path) => {
                format!("{path}\0").into_bytes()
            }
            Self::DirectoryPart(path, offset) => format!("{path}\0{offset}\0").into_bytes(),
            // The value ends with the message, not with a NUL.
            Self::Write(path, value) => [format!("{path}\0").as_bytes(), value].concat(),
            Self::Watch(at, token) | Self::Unwatch(at, token) => format!("{at}\0{token}\0").into_bytes(),
            Self::Begin => vec![0],
            Self::End { commit } => if *commit { b"T\0" } else { b"F\0" }.to_vec(),
            Self::DomainPath(domid) => format!("{domid}\0").into_bytes(),
        }
    }
}

/// What messages call it: the verb and the path.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path) => write!(f, "read {path}"),
            Self::Directory(path) | Self::DirectoryPart(path, _) => write!(f, "list {path}"),
            Self::Write(path, _) => write!(f, "write {path}"),
            Self::MakeDirectory(path) => write!(f, "make {path}"),
            Self::Remove(path) => write!(f, "remove {path}"),
            Self::Watch(at, _) => write!(f, "watch {at}"),
            Self::Unwatch(at, _) => write!(f, "end the watch of {at}"),
            Self::Begin => f.write_str("begin a transaction"),
            Self::End { commit: true } => f.write_str("commit a transaction"),
            Self::End { commit: false } => f.write_str("discard a transaction"),
            Self::DomainPath(domid) => write!(f, "path of domain {domid}"),
        }
    }
}
