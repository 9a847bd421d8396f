//! Writing libxl-json in the form of libxl on yajl.
//!
//! The form: four spaces a level, `"key": value`, one line feed at the end, `{` and `}` of an empty object with a blank
//! line between; `/` and everything above 0x1f raw, but for `"` and `\`; short escapes where JSON has them, else
//! `\u001F` with upper-case digits. Left out: a NULL string, a time of 0, a false flag, the unknown format, no disks.

use std::io::Write as _;

use super::{DiskFields, DiskFormat, DiskSnapshot, DomainFields, DomainSnapshot};

impl DiskSnapshot {
    /// libxl-json of this struct, as `libxl_disk_snapshot_to_json` of a libxl on yajl gives it.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(256);
        self.fields().append_json(&mut out);
        String::from_utf8(out).expect("every string of the struct is UTF-8")
    }
}

impl DomainSnapshot {
    /// libxl-json of this struct, as `libxl_domain_snapshot_to_json` of a libxl on yajl gives it.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(512 + 256 * self.disks.len());
        self.fields().append_json(&mut out);
        String::from_utf8(out).expect("every string of the struct is UTF-8")
    }
}

impl DiskFields<'_> {
    /// Appends the struct's libxl-json to `out`.
    pub fn append_json(&self, out: &mut Vec<u8>) {
        disk(self, "    ", out);
        out.push(b'\n');
    }
}

impl<'a, Disks: IntoIterator<Item = DiskFields<'a>>> DomainFields<'_, Disks> {
    /// Appends the struct's libxl-json to `out`.
    pub fn append_json(self, out: &mut Vec<u8>) {
        let mut object = Object::open("    ", out);
        object.string("name", self.name);
        object.string("description", self.description);
        if self.creation_time != 0 {
            let out = object.key("creation_time");
            write!(out, "{}", self.creation_time).expect("a Vec takes every write");
        }
        object.string("memory", self.memory);
        object.flag("running", self.running);
        object.flag("blocked", self.blocked);
        object.flag("paused", self.paused);
        object.flag("shutdown", self.shutdown);
        object.flag("dying", self.dying);
        let mut disks = self.disks.into_iter().peekable();
        if disks.peek().is_some() {
            let out = object.key("disks");
            let mut separator: &[u8] = b"[\n        ";
            for fields in disks {
                out.extend_from_slice(separator);
                disk(&fields, "            ", out);
                separator = b",\n        ";
            }
            out.extend_from_slice(b"\n    ]");
        }
        object.close();
        out.push(b'\n');
    }
}

fn disk(fields: &DiskFields<'_>, indent: &'static str, out: &mut Vec<u8>) {
    let mut object = Object::open(indent, out);
    object.string("device", fields.device);
    object.string("name", fields.name);
    object.string("file", fields.file);
    match DiskFormat::from_number(fields.format) {
        Some(DiskFormat::Unknown) => {}
        Some(format) => object.string("format", Some(format.name().as_bytes())),
        // libxl has no name for it and writes what its generator makes of a NULL string.
        None => object.key("format").extend_from_slice(b"null"),
    }
    object.string("path", fields.path);
    object.close();
}

/// One object being written; `indent` is that of its members.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    indent: &'static str,
    empty: bool,
}

impl<'o> Object<'o> {
    fn open(indent: &'static str, out: &'o mut Vec<u8>) -> Self {
        out.extend_from_slice(b"{\n");
        Self { out, indent, empty: true }
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.extend_from_slice(b",\n");
        }
        self.empty = false;
        self.out.extend_from_slice(self.indent.as_bytes());
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\": ");
        self.out
    }

    fn string(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            string(value, self.key(key));
        }
    }

    fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.key(key).extend_from_slice(b"true");
        }
    }

    fn close(self) {
        self.out.push(b'\n');
        self.out.extend_from_slice(&self.indent.as_bytes()[4..]);
        self.out.push(b'}');
    }
}

fn string(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = value;
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => write!(out, "\\u{byte:04X}").expect("a Vec takes every write"),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
