//! QEMU's own description of its commands, and what it can do.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::commands::{QueryCommands, QueryQmpSchema};
use crate::{Error, Qmp, QmpExt};

/// The commands that a QEMU has. What it can do is asked for by name, never by its version: distributions carry
/// commands back, and builds leave them out.
#[derive(Debug, Clone, Default)]
pub struct Features {
    commands: std::collections::HashSet<String>,
}

impl Features {
    /// Asks QEMU (`query-commands`: a few milliseconds).
    ///
    /// # Errors
    /// Those of [`Qmp::execute_raw`].
    ///
    /// # Cancel safety
    /// It has no effect.
    pub async fn query(qmp: &dyn Qmp) -> Result<Self, Error> {
        Ok(qmp.execute(QueryCommands).await?.into_iter().map(|command| command.name).collect())
    }

    /// Whether there is this command.
    pub fn has_command(&self, name: &str) -> bool {
        self.commands.contains(name)
    }
}

impl FromIterator<String> for Features {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self { commands: names.into_iter().collect() }
    }
}

/// The result of `query-qmp-schema`: commands, events and types.
///
/// It answers the finer questions (has this command that argument?), at the price of 10 ms and 0.2 MiB, and it
/// [checks](Schema::check) arguments as QEMU does.
#[derive(Debug, Clone)]
pub struct Schema {
    entities: HashMap<String, Entity>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "meta-type", rename_all = "kebab-case")]
enum Entity {
    #[serde(rename_all = "kebab-case")]
    Builtin {
        json_type: String,
    },
    Enum {
        values: Vec<String>,
    },
    #[serde(rename_all = "kebab-case")]
    Array {
        element_type: String,
    },
    Object {
        #[serde(default)]
        members: Vec<Member>,
        tag: Option<String>,
        #[serde(default)]
        variants: Vec<Variant>,
    },
    Alternate {
        members: Vec<Alternative>,
    },
    #[serde(rename_all = "kebab-case")]
    Command {
        arg_type: String,
    },
    Event {},
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Deserialize)]
struct Member {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    /// There (as null) when the member is optional.
    #[serde(default, deserialize_with = "is_there")]
    default: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Variant {
    case: String,
    #[serde(rename = "type")]
    type_name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Alternative {
    #[serde(rename = "type")]
    type_name: String,
}

fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Schema {
    /// Asks QEMU.
    ///
    /// # Errors
    /// Those of [`Qmp::execute_raw`].
    ///
    /// # Cancel safety
    /// It has no effect.
    pub async fn query(qmp: &dyn Qmp) -> Result<Self, Error> {
        Ok(Self::new(qmp.execute(QueryQmpSchema).await?))
    }

    /// Reads the result of `query-qmp-schema`. Entries that are not understood are left out.
    pub fn new(entries: impl IntoIterator<Item = Value>) -> Self {
        let named = |entry: Value| {
            let name = entry.get("name")?.as_str()?.to_owned();
            Some((name, serde_json::from_value(entry).ok()?))
        };
        Self { entities: entries.into_iter().filter_map(named).collect() }
    }

    /// Whether there is this command.
    pub fn has_command(&self, name: &str) -> bool {
        matches!(self.entities.get(name), Some(Entity::Command { .. }))
    }

    /// Whether the command has this argument, in any of its variants.
    pub fn has_argument(&self, command: &str, argument: &str) -> bool {
        let Some(Entity::Command { arg_type }) = self.entities.get(command) else { return false };
        self.has_member(arg_type, argument)
            || self.variants(arg_type).any(|variant| self.has_member(&variant.type_name, argument))
    }

    /// Whether `transaction` has this action.
    pub fn has_action(&self, name: &str) -> bool {
        let Some(Entity::Command { arg_type }) = self.entities.get("transaction") else { return false };
        let Some(Entity::Object { members, .. }) = self.entities.get(arg_type) else { return false };
        members.iter().any(|member| match self.entities.get(&member.type_name) {
            Some(Entity::Array { element_type }) => {
                self.variants(element_type).any(|variant| variant.case == name)
            }
            _ => false,
        })
    }

    /// Checks a command's arguments as QEMU does before it executes it.
    ///
    /// # Errors
    /// What is wrong, and where: `transaction.actions[0].data.name is missing`.
    pub fn check(&self, command: &str, arguments: &Map<String, Value>) -> Result<(), String> {
        let Some(Entity::Command { arg_type }) = self.entities.get(command) else {
            return Err(format!("there is no command {command}"));
        };
        self.check_object(arg_type, arguments, command)
    }

    fn has_member(&self, type_name: &str, name: &str) -> bool {
        match self.entities.get(type_name) {
            Some(Entity::Object { members, .. }) => members.iter().any(|member| member.name == name),
            _ => false,
        }
    }

    fn variants(&self, type_name: &str) -> impl Iterator<Item = &Variant> {
        match self.entities.get(type_name) {
            Some(Entity::Object { variants, .. }) => variants.iter(),
            _ => [].iter(),
        }
    }

    /// Recursion ends with `value`: each level takes one of its levels.
    fn check_value(&self, type_name: &str, value: &Value, at: &str) -> Result<(), String> {
        match (self.entities.get(type_name), value) {
            (Some(Entity::Builtin { json_type }), _) => {
                let fits = match json_type.as_str() {
                    "string" => value.is_string(),
                    "int" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    _ => true,
                };
                if fits { Ok(()) } else { Err(format!("{at} is not a {json_type}")) }
            }
            (Some(Entity::Enum { values }), Value::String(text)) if values.contains(text) => Ok(()),
            (Some(Entity::Enum { .. }), _) => Err(format!("{at} does not take {value}")),
            (Some(Entity::Array { element_type }), Value::Array(elements)) => {
                let check =
                    |(index, element)| self.check_value(element_type, element, &format!("{at}[{index}]"));
                elements.iter().enumerate().try_for_each(check)
            }
            (Some(Entity::Array { .. }), _) => Err(format!("{at} is not an array")),
            (Some(Entity::Object { .. }), Value::Object(object)) => self.check_object(type_name, object, at),
            (Some(Entity::Object { .. }), _) => Err(format!("{at} is not an object")),
            (Some(Entity::Alternate { members }), _) => {
                let mut errors = members.iter().map(|one| self.check_value(&one.type_name, value, at).err());
                // Of several alternatives, the error of an object tells most.
                let errors: Option<Vec<String>> = errors.by_ref().collect();
                errors.map_or(Ok(()), |errors| Err(errors.join(", or ")))
            }
            _ => Err(format!("{at} has a type that is not known")),
        }
    }

    fn check_object(&self, type_name: &str, object: &Map<String, Value>, at: &str) -> Result<(), String> {
        let Some(Entity::Object { members, tag, .. }) = self.entities.get(type_name) else {
            return Err(format!("{at} has a type that is not known"));
        };
        let case = tag.as_ref().and_then(|tag| object.get(tag)).and_then(Value::as_str);
        let variant = self.variants(type_name).find(|variant| Some(variant.case.as_str()) == case);
        let more = match variant.and_then(|variant| self.entities.get(&variant.type_name)) {
            Some(Entity::Object { members, .. }) => members.as_slice(),
            _ => &[],
        };
        for member in members.iter().chain(more) {
            match object.get(&member.name) {
                Some(value) => {
                    self.check_value(&member.type_name, value, &format!("{at}.{}", member.name))?
                }
                None if member.default => {}
                None => return Err(format!("{at}.{} is missing", member.name)),
            }
        }
        let known = |name: &String| members.iter().chain(more).any(|member| member.name == *name);
        match object.keys().find(|name| !known(name)) {
            Some(name) => Err(format!("{at}.{name} is unexpected")),
            None => Ok(()),
        }
    }
}
