//! A domain's configuration, in libxl's JSON.

use serde_json::{Map, Value};
use uuid::Uuid;

mod xl_cfg;

/// A domain's configuration, as libxl keeps it and writes it into save files.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration(Map<String, Value>);

impl Configuration {
    /// The most bytes that are read: thousands of disks.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Reads it: plain, as userdata files and save files have it (the former with a NUL at the end), or in the array that
    /// `xl list -l` prints for one domain.
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > Self::MAX_BYTES {
            return Err(format!("the configuration has {} bytes", text.len()));
        }
        let value: Value = serde_json::from_str(text.trim_end_matches('\0'))
            .map_err(|error| format!("the configuration is no JSON: {error}"))?;
        let plain = match value {
            Value::Array(mut domains) if domains.len() == 1 => {
                domains.remove(0).get_mut("config").map(Value::take)
            }
            other => Some(other),
        };
        match plain {
            Some(Value::Object(map)) if map.contains_key("c_info") => Ok(Self(map)),
            _ => Err("the configuration is not libxl's".to_owned()),
        }
    }

    /// As one line of JSON.
    pub fn to_text(&self) -> String {
        serde_json::to_string(&self.0).expect("what was read as JSON is written as JSON")
    }

    /// The domain's name.
    pub fn name(&self) -> Option<&str> {
        self.creation("name")?.as_str()
    }

    /// The domain's uuid.
    pub fn uuid(&self) -> Option<Uuid> {
        self.creation("uuid")?.as_str().and_then(|uuid| Uuid::try_parse(uuid).ok())
    }

    fn creation(&self, key: &str) -> Option<&Value> {
        self.0.get("c_info")?.get(key)
    }

    /// The same in `xl.cfg(5)`'s form, for `xl create`, with this name and uuid.
    ///
    /// # Errors
    /// What of it cannot be written so, as a clause. Nothing is left out silently: a domain that starts as another machine is worse
    /// than one that does not start.
    pub fn to_xl_cfg(&self, name: &str, uuid: Uuid) -> Result<String, String> {
        xl_cfg::write(&self.0, name, uuid)
    }
}
