//! What one JSON object from QEMU means.

use serde_json::{Map, Value};

use crate::Event;

/// What QEMU says of itself when a client connects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Greeting {
    /// Its version: major, minor, micro.
    pub version: (u32, u32, u32),
    /// The distribution's name of the build; empty in QEMU's own.
    pub package: String,
    /// The capabilities that a client may enable (`oob`); those that we do not know too.
    pub capabilities: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Message {
    Greeting(Greeting),
    Reply {
        id: Option<Value>,
        outcome: Result<Value, Refusal>,
    },
    Event(Event),
    /// An object with none of the members that QMP has.
    Unrecognised,
}

/// The `error` member of a reply.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) class: String,
    pub(super) desc: String,
}

impl Message {
    /// Reads one object. Members and values beyond those needed are ignored. `Err` when it is not JSON.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut object: Map<String, Value> = serde_json::from_slice(bytes)?;
        if let Some(error) = object.remove("error") {
            return Ok(Self::Reply { id: object.remove("id"), outcome: Err(refusal(&error)) });
        }
        if let Some(value) = object.remove("return") {
            return Ok(Self::Reply { id: object.remove("id"), outcome: Ok(value) });
        }
        if let Some(Value::String(name)) = object.remove("event") {
            let data = match object.remove("data") {
                Some(Value::Object(data)) => data,
                _ => Map::new(),
            };
            return Ok(Self::Event(Event {
                name,
                data,
                timestamp_us: microseconds(object.get("timestamp")),
            }));
        }
        Ok(object.get("QMP").and_then(greeting).map_or(Self::Unrecognised, Self::Greeting))
    }
}

fn greeting(value: &Value) -> Option<Greeting> {
    let version = value.get("version")?;
    let number = |name: &str| version.get("qemu")?.get(name)?.as_u64()?.try_into().ok();
    Some(Greeting {
        version: (number("major")?, number("minor")?, number("micro")?),
        package: version.get("package").and_then(Value::as_str).unwrap_or_default().to_owned(),
        capabilities: value
            .get("capabilities")
            .and_then(Value::as_array)
            .map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default(),
    })
}

fn refusal(error: &Value) -> Refusal {
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    Refusal {
        class: text("class").unwrap_or("GenericError").to_owned(),
        desc: text("desc").map_or_else(|| error.to_string(), str::to_owned),
    }
}

/// QEMU sends -1 seconds when it has no host time; such a one is `None`.
fn microseconds(timestamp: Option<&Value>) -> Option<u64> {
    let timestamp = timestamp?;
    let seconds = timestamp.get("seconds")?.as_u64()?;
    let micros = timestamp.get("microseconds")?.as_u64()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

/// `text` from the other side, fit for one line of a message: no control characters, no more than 1,000 characters.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 1000;
    let mut line = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            line.push_str("...");
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
