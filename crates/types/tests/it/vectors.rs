//! What the real libxl, built on yajl and on json-c, wrote and read.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use xlsnap_types::libxl::{
    DiskFields, DiskFormat, DiskSnapshot, DomainFields, DomainSnapshot, JsonErrorKind, JsonReason, Mode,
    StructType, normalise,
};

const BUILD: &str = include_str!("../vectors/libxl-json-build.jsonl");
pub(crate) const ROUNDTRIP: &str = include_str!("../vectors/libxl-json-roundtrip.jsonl");

#[derive(Deserialize)]
struct Build {
    name: String,
    r#type: String,
    fields: Map<String, Value>,
    #[serde(default)]
    fields_b64: Map<String, Value>,
    yajl: Outcome,
    jsonc: Outcome,
}

#[derive(Deserialize)]
pub(crate) struct Roundtrip {
    pub(crate) name: String,
    pub(crate) r#type: String,
    pub(crate) input: Option<String>,
    input_b64: Option<String>,
    pub(crate) yajl: Outcome,
}

#[derive(Deserialize)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) output: Option<String>,
    output_b64: Option<String>,
}

impl Roundtrip {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        either(&self.input, &self.input_b64)
    }
}

impl Outcome {
    /// The bytes that libxl wrote; `None` when it refused the input.
    fn bytes(&self) -> Option<Vec<u8>> {
        self.ok.then(|| either(&self.output, &self.output_b64))
    }
}

fn either(text: &Option<String>, base64: &Option<String>) -> Vec<u8> {
    match (text, base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(base64)) => decode_base64(base64),
        (None, None) => panic!("a vector has neither text nor base64"),
    }
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("not base64: {text}"),
    };
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        bits = bits << 6 | u32::from(digit(byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

pub(crate) fn lines<'t, T: Deserialize<'t>>(text: &'t str) -> impl Iterator<Item = T> {
    text.lines().map(|line| serde_json::from_str(line).expect("a vector is JSON"))
}

/// The value of a C string field: text, base64 of other bytes, or NULL.
fn string<'f>(build: &'f Build, fields: &'f Map<String, Value>, key: &str) -> Option<Vec<u8>> {
    let bytes = fields.get(key).and_then(Value::as_str).map(|text| text.as_bytes().to_vec());
    bytes.or_else(|| build.fields_b64.get(key).and_then(Value::as_str).map(decode_base64))
}

fn flag(fields: &Map<String, Value>, key: &str) -> bool {
    fields.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The strings of a disk, in the order device, name, file, path.
fn disk_strings(build: &Build, fields: &Map<String, Value>) -> [Option<Vec<u8>>; 4] {
    ["device", "name", "file", "path"].map(|key| string(build, fields, key))
}

fn disk<'s>(fields: &Map<String, Value>, strings: &'s [Option<Vec<u8>>; 4]) -> DiskFields<'s> {
    let format = match fields.get("format") {
        None | Some(Value::Null) => 0,
        Some(Value::Number(number)) => number.as_i64().and_then(|n| i32::try_from(n).ok()).expect("an int"),
        Some(value) => value.as_str().expect("a name").parse::<DiskFormat>().expect("a format").number(),
    };
    let [device, name, file, path] = strings.each_ref().map(Option::as_deref);
    DiskFields { device, name, file, format, path }
}

fn write(build: &Build) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = &build.fields;
    if build.r#type == "disk_snapshot" {
        disk(fields, &disk_strings(build, fields)).append_json(&mut out);
        return out;
    }
    let none = Vec::new();
    let disks = fields.get("disks").and_then(Value::as_array).unwrap_or(&none);
    let disks: Vec<_> = disks.iter().map(|disk| disk.as_object().expect("an object")).collect();
    let strings: Vec<_> = disks.iter().map(|fields| disk_strings(build, fields)).collect();
    let [name, description, memory] = ["name", "description", "memory"].map(|key| string(build, fields, key));
    DomainFields {
        name: name.as_deref(),
        description: description.as_deref(),
        creation_time: fields.get("creation_time").and_then(Value::as_u64).unwrap_or(0),
        memory: memory.as_deref(),
        running: flag(fields, "running"),
        blocked: flag(fields, "blocked"),
        paused: flag(fields, "paused"),
        shutdown: flag(fields, "shutdown"),
        dying: flag(fields, "dying"),
        disks: disks.iter().zip(&strings).map(|(fields, strings)| disk(fields, strings)),
    }
    .append_json(&mut out);
    out
}

#[test]
fn writes_as_libxl_on_yajl_byte_for_byte() {
    let mut count = 0;
    for build in lines::<Build>(BUILD) {
        let expected = build.yajl.bytes().expect("libxl writes every struct");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&write(&build)), text(&expected), "{}", build.name);
        assert_eq!(write(&build), expected, "{}", build.name);
        count += 1;
    }
    assert!(count > 100, "the vectors were found");
}

/// Strict mode reads what any libxl writes, and gives the struct that was written.
#[test]
fn strict_reads_what_either_libxl_writes() {
    for build in lines::<Build>(BUILD) {
        let of = struct_type(&build.r#type);
        let canonical = build.yajl.bytes().expect("libxl writes every struct");
        for written in [&build.yajl, &build.jsonc] {
            let bytes = written.bytes().expect("libxl writes every struct");
            let read = normalise(&bytes, of, Mode::Strict);
            if str::from_utf8(&bytes).is_err() {
                let error = read.expect_err("a string that is not UTF-8");
                assert_eq!(error.reason, JsonReason::NotUtf8, "{}", build.name);
                continue;
            }
            // A number that is no format is written as null, and so is read as unknown.
            let canonical = String::from_utf8(canonical.clone()).expect("UTF-8");
            let canonical = canonical.replace(",\n    \"format\": null", "");
            assert_eq!(read.as_deref(), Ok(canonical.as_str()), "{}", build.name);
        }
    }
}

fn struct_type(name: &str) -> StructType {
    name.parse().expect("a known type")
}

/// The deviations of libxl mode, by the marks that the README gives them.
fn deviation(
    input: &[u8],
    yajl: Option<&[u8]>,
    ours: &Result<String, xlsnap_types::libxl::JsonError>,
) -> &'static str {
    match ours {
        Err(error) => match error.reason {
            JsonReason::NegativeTime(_) | JsonReason::FractionalTime(_) | JsonReason::TimeTooLarge(_) => {
                "time"
            }
            JsonReason::Nul => "cut",
            JsonReason::HalfSurrogate => "half",
            JsonReason::Conflict => "twice",
            ref other => panic!("{other} is no documented deviation"),
        },
        Ok(ours) => {
            let read = |json: &[u8]| DomainSnapshot::from_json(json, Mode::Strict).expect("canonical JSON");
            let mut ours = read(ours.as_bytes());
            assert_eq!(ours, DomainSnapshot::from_json(input, Mode::Libxl).expect("it was read before"));
            assert!(ours.creation_time >= i64::MAX.unsigned_abs(), "only such a time differs");
            ours.creation_time = 0;
            assert_eq!(ours, read(yajl.expect("libxl takes it")), "only the time differs");
            "time"
        }
    }
}

#[test]
fn libxl_mode_reads_as_libxl_on_yajl() {
    let mut valid = 0;
    let mut deviations = BTreeSet::new();
    for vector in lines::<Roundtrip>(ROUNDTRIP) {
        let input = vector.bytes();
        let of = struct_type(&vector.r#type);
        let ours = normalise(&input, of, Mode::Libxl);
        let text = str::from_utf8(&input);
        let is_json = text.is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        if !is_json {
            let error = ours.expect_err(&vector.name);
            // A value that libxl refuses too may stand before the fault.
            assert!(
                matches!(
                    error.kind(),
                    JsonErrorKind::NotJson | JsonErrorKind::Value | JsonErrorKind::Duplicate
                ),
                "{}: {error}",
                vector.name
            );
            continue;
        }
        valid += 1;
        let yajl = vector.yajl.bytes();
        if ours.as_ref().ok().map(String::as_bytes) != yajl.as_deref() {
            deviations.insert(deviation(&input, yajl.as_deref(), &ours));
        }
    }
    assert!(valid > 300, "the vectors were found");
    assert_eq!(deviations, crate::readme::marks(), "what was met (left), what the README lists (right)");
}

#[test]
fn strict_mode_is_a_subset_with_the_same_values() {
    for vector in lines::<Roundtrip>(ROUNDTRIP) {
        let input = vector.bytes();
        if let Ok(strict) = DomainSnapshot::from_json(&input, Mode::Strict) {
            assert_eq!(DomainSnapshot::from_json(&input, Mode::Libxl), Ok(strict), "{}", vector.name);
        }
        if let Ok(strict) = DiskSnapshot::from_json(&input, Mode::Strict) {
            assert_eq!(DiskSnapshot::from_json(&input, Mode::Libxl), Ok(strict), "{}", vector.name);
        }
    }
}
