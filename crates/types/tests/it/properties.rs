//! What holds for any input.

use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use xlsnap_types::config::UserConfig;
use xlsnap_types::libxl::{DiskFormat, DiskSnapshot, DomainSnapshot, JsonErrorKind, Mode};
use xlsnap_types::model::Snapshot;

use crate::vectors::{ROUNDTRIP, Roundtrip, lines};

/// Any JSON, with every key of an object in its place.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    /// A whole number that `u64` holds.
    Whole(u64),
    Negative,
    /// One with a fraction or an exponent, or too large; its nearest `f64`.
    Other(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Whole(value))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Negative)
            }
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Other(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::String(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Json::Array(elements))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Libxl mode written a second time, on a tree. `None` is an error.
mod reference {
    use super::*;

    /// The value of a key, which keeps its default where the key is missing.
    fn field<T: Default + PartialEq>(json: &Json, key: &str, read: impl Fn(&Json) -> Option<T>) -> Option<T> {
        let Json::Object(members) = json else { return Some(T::default()) };
        let mut value = None;
        for (name, json) in members {
            let as_c = name.split('\0').next();
            if as_c == Some(key) && name != key {
                return None;
            }
            if name == key {
                let read = read(json)?;
                if value.as_ref().is_some_and(|earlier| *earlier != read) {
                    return None;
                }
                value = Some(read);
            }
        }
        Some(value.unwrap_or_default())
    }

    fn string(json: &Json) -> Option<Option<String>> {
        match json {
            Json::String(text) if text.contains('\0') => None,
            Json::String(text) => Some(Some(text.clone())),
            _ => Some(None),
        }
    }

    fn flag(json: &Json) -> Option<bool> {
        Some(*json == Json::Bool(true))
    }

    fn time(json: &Json) -> Option<u64> {
        match json {
            Json::Whole(value) => Some(*value),
            Json::Negative => None,
            Json::Other(value) if *value != 0.0 => None,
            _ => Some(0),
        }
    }

    fn format(json: &Json) -> Option<DiskFormat> {
        match json {
            Json::String(text) => text.parse().ok(),
            _ => Some(DiskFormat::Unknown),
        }
    }

    fn disks(json: &Json) -> Option<Vec<DiskSnapshot>> {
        match json {
            Json::Array(elements) => elements.iter().map(disk).collect(),
            _ => Some(Vec::new()),
        }
    }

    pub(super) fn disk(json: &Json) -> Option<DiskSnapshot> {
        Some(DiskSnapshot {
            device: field(json, "device", string)?,
            name: field(json, "name", string)?,
            file: field(json, "file", string)?,
            format: field(json, "format", format)?,
            path: field(json, "path", string)?,
        })
    }

    pub(super) fn domain(json: &Json) -> Option<DomainSnapshot> {
        Some(DomainSnapshot {
            name: field(json, "name", string)?,
            description: field(json, "description", string)?,
            creation_time: field(json, "creation_time", time)?,
            memory: field(json, "memory", string)?,
            running: field(json, "running", flag)?,
            blocked: field(json, "blocked", flag)?,
            paused: field(json, "paused", flag)?,
            shutdown: field(json, "shutdown", flag)?,
            dying: field(json, "dying", flag)?,
            disks: field(json, "disks", disks)?,
        })
    }
}

/// Everything that must hold when both modes read `input`.
fn check_reading(input: &[u8]) {
    check_one(input, DomainSnapshot::from_json, DomainSnapshot::to_json, reference::domain);
    check_one(input, DiskSnapshot::from_json, DiskSnapshot::to_json, reference::disk);
}

fn check_one<T: PartialEq + fmt::Debug>(
    input: &[u8],
    read: fn(&[u8], Mode) -> Result<T, xlsnap_types::libxl::JsonError>,
    write: fn(&T) -> String,
    reference: fn(&Json) -> Option<T>,
) {
    let shown = String::from_utf8_lossy(input);
    let libxl = read(input, Mode::Libxl);
    if let Ok(strict) = read(input, Mode::Strict) {
        assert_eq!(libxl.as_ref(), Ok(&strict), "strict reads more, or otherwise: {shown}");
    }
    let is_json = str::from_utf8(input).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match &libxl {
        Ok(value) => {
            assert!(is_json, "not JSON, but read: {shown}");
            assert_eq!(read(write(value).as_bytes(), Mode::Strict).as_ref(), Ok(value), "{shown}");
        }
        Err(error) if is_json => assert_ne!(error.kind(), JsonErrorKind::NotJson, "{shown}: {error}"),
        Err(_) => {}
    }
    // The tree has a limit on nesting, and no halves of surrogate pairs. 1e-999 is zero as an f64 and not zero.
    let tiny = shown.contains("e-") || shown.contains("E-") || shown.contains("00000");
    if let (false, Ok(tree)) = (tiny, serde_json::from_slice::<Json>(input)) {
        assert_eq!(libxl.ok(), reference(&tree), "the reference reads otherwise: {shown}");
    }
}

/// A text of JSON whose keys and values are near those of the structs.
fn json_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-1",
            "1.5",
            "0.0",
            "1e5",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "\"\"",
            "\"a\"",
            "\"hda\"",
            "\"qcow2\"",
            "\"RAW\"",
            "\"vmdk\"",
            "\"unknown\"",
            "\"a\\u0000b\"",
            "\"\\u0000\"",
            "\"\\ud83d\\ude00\\/\\n\"",
            "\"\\ud83d\"",
            "\"é\"",
        ])
        .prop_map(str::to_owned),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("a string is JSON")),
    ];
    let key = select(vec![
        "name",
        "description",
        "creation_time",
        "memory",
        "running",
        "blocked",
        "paused",
        "shutdown",
        "dying",
        "disks",
        "disks",
        "device",
        "file",
        "format",
        "path",
        "num_disks",
        "",
        "name\\u0000",
        "n\\u0061me",
        "Name",
        "\\ude00",
    ]);
    let space = select(vec!["", "", " ", "\n\t", "\r\n"]);
    scalar.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..4), space.clone())
                .prop_map(|(elements, space)| format!("[{space}{}{space}]", elements.join(","))),
            (vec((key.clone(), inner), 0..8), space.clone()).prop_map(|(members, space)| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, value)| format!("\"{key}\"{space}:{space}{value}{space}"))
                    .collect();
                format!("{{{space}{}}}", members.join(","))
            }),
        ]
    })
}

/// A recorded input with some bytes changed.
fn mutated_vector() -> impl Strategy<Value = Vec<u8>> {
    let inputs: Vec<_> = lines::<Roundtrip>(ROUNDTRIP)
        .map(|vector| vector.bytes())
        .filter(|input| input.len() < 2000)
        .collect();
    let piece = select(vec![
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "1",
        "-",
        ".",
        "e",
        "\\u0000",
        "\\ud800",
        " ",
        "\0",
        "é",
        "\"name\":\"b\",",
        "\"creation_time\":5,",
    ]);
    let change = (any::<Index>(), 0..6usize, piece);
    (select(inputs), vec(change, 0..4)).prop_map(|(mut input, changes)| {
        for (at, remove, insert) in changes {
            let at = at.index(input.len() + 1);
            let end = (at + remove).min(input.len());
            input.splice(at..end, insert.bytes());
        }
        input
    })
}

/// A string as C may have it and UTF-8.
fn c_string() -> impl Strategy<Value = Option<String>> {
    option::of(any::<String>().prop_map(|text| text.replace('\0', "")))
}

fn disk() -> impl Strategy<Value = DiskSnapshot> {
    (c_string(), c_string(), c_string(), select(DiskFormat::ALL.to_vec()), c_string())
        .prop_map(|(device, name, file, format, path)| DiskSnapshot { device, name, file, format, path })
}

fn domain() -> impl Strategy<Value = DomainSnapshot> {
    let strings = (c_string(), c_string(), c_string());
    (strings, any::<u64>(), any::<[bool; 5]>(), vec(disk(), 0..4)).prop_map(
        |((name, description, memory), creation_time, flags, disks)| {
            let [running, blocked, paused, shutdown, dying] = flags;
            DomainSnapshot {
                name,
                description,
                creation_time,
                memory,
                running,
                blocked,
                paused,
                shutdown,
                dying,
                disks,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_as_it_was(snapshot in domain()) {
        let json = snapshot.to_json();
        prop_assert_eq!(DomainSnapshot::from_json(json.as_bytes(), Mode::Strict), Ok(snapshot.clone()));
        prop_assert!(serde_json::from_str::<IgnoredAny>(&json).is_ok());
        for disk in snapshot.disks {
            prop_assert_eq!(DiskSnapshot::from_json(disk.to_json().as_bytes(), Mode::Strict), Ok(disk));
        }
    }

    #[test]
    fn reading_any_json(text in json_text()) {
        check_reading(text.as_bytes());
    }

    #[test]
    fn reading_mutated_vectors(input in mutated_vector()) {
        check_reading(&input);
    }

    #[test]
    fn a_snapshot_survives_the_way_to_libxl_and_back(from in domain()) {
        if let Ok(snapshot) = Snapshot::try_from(&from) {
            let there = DomainSnapshot::try_from(&snapshot).expect("it came from libxl's formats");
            prop_assert_eq!(Snapshot::try_from(&there), Ok(snapshot));
        }
    }

    #[test]
    fn a_configuration_file_never_panics(
        words in vec(select(vec![
            "name", "disk", "type", "memory", "=", "=", "'", "\"", "[", "]", ",", ";", "\n", "#", " ", "vdev=hda",
            "target=/a", "format=raw", "1", "0x", "é", "\r", "'a'", "'vdev=hdb'", "'external'",
        ]), 0..24),
        bytes in vec(any::<u8>(), 0..16),
    ) {
        let mut text = words.concat().into_bytes();
        for file in [text.clone(), bytes.clone(), { text.extend(&bytes); text }] {
            if let Err(error) = UserConfig::parse(&file) {
                let lines = file.iter().filter(|&&byte| byte == b'\n').count() + 1;
                prop_assert!((1..=lines).contains(&error.line));
                prop_assert!(error.column <= file.len() + 1);
            }
        }
    }
}
