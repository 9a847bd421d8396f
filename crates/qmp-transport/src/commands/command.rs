//! What every command's module uses.

use serde::Deserialize;

/// The result of a command that returns an empty object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Nothing {}

/// Ties an argument type to its name on the wire and its result.
macro_rules! command {
    ($($arguments:ty = $name:literal -> $ok:ty;)+) => {
        $(impl $crate::Command for $arguments {
            const NAME: &'static str = $name;
            type Ok = $ok;
        })+
    };
}
pub(crate) use command;
