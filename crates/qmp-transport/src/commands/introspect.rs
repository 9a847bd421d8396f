//! What QEMU says of itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command;

/// Which QEMU this is. The greeting has it already: [`crate::Client::greeting`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryVersion;

/// The result of [`QueryVersion`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct VersionInfo {
    /// The version.
    pub qemu: VersionTriple,
    /// The distribution's name of the build.
    #[serde(default)]
    pub package: String,
}

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct VersionTriple {
    /// Incremented once a year.
    pub major: u32,
    /// 0 to 2.
    pub minor: u32,
    /// The stable release.
    pub micro: u32,
}

/// Which commands there are.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryCommands;

/// A command that this QEMU has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CommandInfo {
    /// Its name.
    pub name: String,
}

/// The whole schema: 0.1 to 0.2 MiB, 10 ms. [`crate::schema::Schema`] reads it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryQmpSchema;

/// The name of the virtual machine (`-name`).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryName;

/// The result of [`QueryName`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct NameInfo {
    /// The name; `None` when none was given.
    pub name: Option<String>,
}

/// The UUID of the virtual machine (`-uuid`).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryUuid;

/// The result of [`QueryUuid`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct UuidInfo {
    /// The UUID with hyphens; all zeros when none was given.
    #[serde(rename = "UUID")]
    pub uuid: String,
}

command! {
    QueryVersion = "query-version" -> VersionInfo;
    QueryCommands = "query-commands" -> Vec<CommandInfo>;
    QueryQmpSchema = "query-qmp-schema" -> Vec<Value>;
    QueryName = "query-name" -> NameInfo;
    QueryUuid = "query-uuid" -> UuidInfo;
}
