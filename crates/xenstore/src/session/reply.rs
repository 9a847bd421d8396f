//! What xenstored answers.

use super::request::{Request, TransactionId};
use crate::path::check_name;
use crate::{Path, Watchpoint};

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Request::Read`]: the node's value.
    Value(Vec<u8>),
    /// To [`Request::Directory`]: the names of the children, each valid as one part of a path.
    Names(Vec<String>),
    /// To [`Request::DirectoryPart`].
    Part {
        /// Another number than that of the part before means that the node changed in between.
        generation: u64,
        /// The names in this part, as those of [`Reply::Names`].
        names: Vec<String>,
        /// Whether the list ends here.
        last: bool,
    },
    /// To [`Request::Begin`].
    Begun(TransactionId),
    /// To [`Request::DomainPath`].
    Path(Path),
    /// To all others.
    Done,
}

impl Reply {
    /// Decodes the payload of the answer to `request`; `Err` says what is wrong with it.
    pub(super) fn decode(request: &Request, payload: &[u8]) -> Result<Self, &'static str> {
        match request {
            Request::Read(_) => Ok(Self::Value(payload.to_vec())),
            Request::Directory(_) => names(payload).map(Self::Names),
            Request::DirectoryPart(..) => part(payload),
            Request::Begin => {
                let id = one_string(payload)?.parse().map_err(|_| "no number of a transaction")?;
                // 0 on the wire means no transaction: with it, changes would not wait for the commit.
                if id == 0 {
                    Err("a transaction with the number 0")
                } else {
                    Ok(Self::Begun(TransactionId(id)))
                }
            }
            Request::DomainPath(_) => Path::new(one_string(payload)?).map(Self::Path).map_err(|_| "no path"),
            _ if payload == b"OK\0" => Ok(Self::Done),
            _ => Err("no OK"),
        }
    }
}

/// The name of the error in the payload of an error: `ENOENT`.
pub(super) fn error_code(payload: &[u8]) -> Result<&str, &'static str> {
    /// The longest that there is has nine.
    const LONGEST: usize = 32;
    let code = one_string(payload)?;
    let is_code = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let valid = code.starts_with('E') && code.len() <= LONGEST && code.bytes().all(is_code);
    if valid { Ok(code) } else { Err("no name of an error") }
}

/// Where, and the token of the watch. What a later protocol may add after these is ignored.
pub(super) fn watch_event(payload: &[u8]) -> Result<(Watchpoint, &str), &'static str> {
    let text = std::str::from_utf8(payload).map_err(|_| "not text")?;
    let mut strings = text.split_terminator('\0');
    let (Some(at), Some(token), true) = (strings.next(), strings.next(), text.ends_with('\0')) else {
        return Err("no path and token");
    };
    Ok((Watchpoint::from_wire(at).map_err(|_| "no path")?, token))
}

fn one_string(payload: &[u8]) -> Result<&str, &'static str> {
    let text = payload.strip_suffix(b"\0").ok_or("no NUL at its end")?;
    if text.contains(&0) {
        return Err("more than one string");
    }
    std::str::from_utf8(text).map_err(|_| "not text")
}

fn names(payload: &[u8]) -> Result<Vec<String>, &'static str> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let text = payload.strip_suffix(b"\0").ok_or("no NUL at its end")?;
    let name = |bytes: &[u8]| {
        let name = std::str::from_utf8(bytes).map_err(|_| "a name that is not text")?;
        check_name(name).map_err(|_| "a name that no node can have")?;
        Ok(name.to_owned())
    };
    text.split(|&byte| byte == 0).map(name).collect()
}

/// The generation, the names, and an empty name after the last.
fn part(payload: &[u8]) -> Result<Reply, &'static str> {
    let end = payload.iter().position(|&byte| byte == 0).ok_or("no generation")?;
    let (generation, rest) = payload.split_at(end);
    let generation = std::str::from_utf8(generation).ok().and_then(|text| text.parse().ok());
    let generation = generation.ok_or("no generation")?;
    let rest = &rest[1..];
    let (list, last) = match rest {
        [0] => (&rest[..0], true),
        [list @ .., 0] if list.ends_with(b"\0") => (list, true),
        list => (list, false),
    };
    let names = names(list)?;
    // Without progress the caller would ask for the same part for ever.
    if names.is_empty() && !last {
        return Err("a part without names");
    }
    Ok(Reply::Part { generation, names, last })
}
