//! QEMU's command line, taken apart. What is not understood is left out.

use std::path::Path;

/// The most keys of one option, and how deep its JSON is followed.
const MAX_KEYS: usize = 4096;
const MAX_DEPTH: usize = 16;

/// The options without a value (QEMU 7.2 to 11.1, `qemu-options.hx`). Every other takes the next word.
const FLAGS: [&str; 30] = [
    "S",
    "alt-grab",
    "ctrl-grab",
    "curses",
    "daemonize",
    "enable-kvm",
    "full-screen",
    "h",
    "help",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-hpet",
    "no-quit",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nographic",
    "old-param",
    "only-migratable",
    "portrait",
    "preconfig",
    "s",
    "sdl",
    "semihosting",
    "singlestep",
    "snapshot",
    "usb",
    "win2k-hack",
];

/// The beginnings of the names of QEMU's programs.
const PROGRAMS: [&str; 3] = ["qemu-system-", "qemu-kvm", "kvm"];

/// One option, its dashes taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) option: &'a str,
    /// Empty of an option that has none.
    pub(super) value: &'a str,
}

/// QEMU's options in a command line. Where the first word is a program that starts QEMU, as `taskset` or `sudo` does, they come
/// after QEMU's name; where no such name is found, after the first word.
pub(super) fn of(line: &[String]) -> Vec<Word<'_>> {
    after(line, qemu_at(line).unwrap_or(0))
}

/// The same of a command line that has QEMU's name; `None` of another, whose program may add options of its own.
pub(super) fn of_qemu(line: &[String]) -> Option<Vec<Word<'_>>> {
    Some(after(line, qemu_at(line)?))
}

fn qemu_at(line: &[String]) -> Option<usize> {
    line.iter().position(|word| {
        let name = Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        PROGRAMS.iter().any(|program| name.starts_with(program))
    })
}

fn after(line: &[String], program: usize) -> Vec<Word<'_>> {
    let begin = program + 1;
    let mut words = Vec::new();
    let mut rest = line.get(begin..).unwrap_or_default().iter().map(String::as_str).peekable();
    while let Some(word) = rest.next() {
        let Some(option) = word.strip_prefix('-') else { continue };
        let option = option.strip_prefix('-').unwrap_or(option);
        let takes_next = !FLAGS.contains(&option) && !option.is_empty();
        let value = if takes_next { rest.next_if(|next| !looks_like_an_option(next)) } else { None };
        words.push(Word { option, value: value.unwrap_or_default() });
    }
    words
}

fn looks_like_an_option(word: &str) -> bool {
    word.starts_with('-') && word[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '-')
}

/// The keys of an option's value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Keys(Vec<(String, String)>);

impl Keys {
    /// Of `key=value,key=value`, where a doubled comma is one of the value, and of JSON, whose nested keys become dotted ones.
    /// The first value may stand without its key, which is `implied`.
    pub(super) fn of(value: &str, implied: &str) -> Self {
        let mut keys = Vec::new();
        if value.starts_with('{') {
            if let Ok(json) = serde_json::from_str(value) {
                flatten("", &json, 0, &mut keys);
            }
            return Self(keys);
        }
        for (at, part) in split(value).into_iter().take(MAX_KEYS).enumerate() {
            match part.split_once('=') {
                Some((key, value)) => keys.push((key.to_owned(), value.to_owned())),
                None if at == 0 && !implied.is_empty() => keys.push((implied.to_owned(), part)),
                None => keys.push((part, "on".to_owned())),
            }
        }
        Self(keys)
    }

    /// The last value of a key, which is the one that counts.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(theirs, _)| theirs == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| matches!(value, "on" | "yes" | "true" | "y"))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The parts between single commas.
fn split(value: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = value.chars().peekable();
    while let Some(c) = characters.next() {
        let part = parts.last_mut().expect("there is always one");
        if c != ',' {
            part.push(c);
        } else if characters.next_if_eq(&',').is_some() {
            part.push(',');
        } else {
            parts.push(String::new());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn flatten(prefix: &str, json: &serde_json::Value, depth: usize, keys: &mut Vec<(String, String)>) {
    use serde_json::Value;
    let below = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    if depth > MAX_DEPTH || keys.len() >= MAX_KEYS {
        return;
    }
    match json {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| flatten(&below(key), value, depth + 1, keys));
        }
        Value::Array(elements) => {
            for (at, value) in elements.iter().enumerate() {
                flatten(&below(&at.to_string()), value, depth + 1, keys);
            }
        }
        Value::String(text) => keys.push((prefix.to_owned(), text.clone())),
        Value::Bool(on) => keys.push((prefix.to_owned(), if *on { "on" } else { "off" }.to_owned())),
        Value::Number(number) => keys.push((prefix.to_owned(), number.to_string())),
        Value::Null => {}
    }
}

/// A size in QEMU's words (`qemu_strtosz`), in bytes; a number alone counts in `unit`.
pub(super) fn size(text: &str, unit: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => unit,
        "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_are_told_from_values() {
        for (text, expected) in [
            ("qemu-system-x86_64 -S -m 64 --kernel /k", vec![("S", ""), ("m", "64"), ("kernel", "/k")]),
            ("taskset -c 0 /usr/bin/kvm -m 1G", vec![("m", "1G")]),
            ("./mine -nodefaults /disk -hda /b", vec![("nodefaults", ""), ("hda", "/b")]),
            ("qemu-system-x86_64 -append -1 -later -m 5", vec![("append", "-1"), ("later", ""), ("m", "5")]),
            ("qemu-system-x86_64", vec![]),
        ] {
            let line = line(text);
            let found: Vec<_> = of(&line).into_iter().map(|word| (word.option, word.value)).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn keys_are_read_in_both_syntaxes() {
        let keys = Keys::of("socket,id=a,path=/a,,b,server,wait=off", "backend");
        let get = |key| keys.get(key);
        assert_eq!((get("backend"), get("path"), get("wait")), (Some("socket"), Some("/a,b"), Some("off")));
        assert!(keys.is_on("server") && !keys.is_on("wait"));
        let json = Keys::of(r#"{"driver":"raw","ro":true,"file":{"filename":"/a,b"},"l":[{"x":1}]}"#, "");
        assert_eq!((json.get("file.filename"), json.get("l.0.x")), (Some("/a,b"), Some("1")));
        assert!(json.is_on("ro"));
        assert_eq!(Keys::of("{no json", ""), Keys::default());
    }

    #[test]
    fn sizes_are_read() {
        const MIB: u64 = 1 << 20;
        for (text, expected) in [
            ("64", Some(64 * MIB)),
            ("64M", Some(64 * MIB)),
            ("1g", Some(1024 * MIB)),
            ("4096K", Some(4 * MIB)),
            ("1.5G", None),
            ("", None),
            ("64X", None),
            ("99999999999999999999G", None),
        ] {
            assert_eq!(size(text, MIB), expected, "{text}");
        }
    }
}
