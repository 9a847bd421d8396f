//! What a line from the agent means.

use serde_json::{Map, Value};

use crate::Error;

/// The agent's answer in `line`; `None` when it is none. Members beyond those needed are ignored.
pub(super) fn answer(line: &[u8], command: &str) -> Option<Result<Value, Error>> {
    let mut object: Map<String, Value> = serde_json::from_slice(line).ok()?;
    if let Some(error) = object.remove("error") {
        let text = |name: &str| error.get(name).and_then(Value::as_str);
        let class = one_line(text("class").unwrap_or("GenericError"));
        let desc = text("desc").map_or_else(|| error.to_string(), str::to_owned);
        return Some(Err(Error::rejected(command, class, &one_line(&desc))));
    }
    object.remove("return").map(Ok)
}

/// A command as it is sent.
pub(super) fn request(command: &str, arguments: &Map<String, Value>) -> Vec<u8> {
    let mut request = Map::new();
    request.insert("execute".into(), command.into());
    if !arguments.is_empty() {
        request.insert("arguments".into(), arguments.clone().into());
    }
    let mut bytes = serde_json::to_vec(&request).expect("strings and JSON values serialise");
    bytes.push(b'\n');
    bytes
}

/// `text` from the guest, fit for one line of a message: no control characters, no more than 200 characters.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
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
