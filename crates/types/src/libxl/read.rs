//! Reading libxl-json.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::error::{Fault, JsonError, JsonReason};
use super::lex::{Cursor, Kind};
use super::{DiskFormat, DiskSnapshot, DomainSnapshot};
use crate::text::excerpt;

/// How much a reader puts up with. Both modes read JSON (RFC 8259, UTF-8) only, and ignore keys that they don't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// For our own files: a wrong type, a key that stands twice and a time that is not plain digits are errors. It
    /// reads all that any libxl writes. What it reads, [`Mode::Libxl`] reads as the same value.
    #[default]
    Strict,
    /// For others' files: as libxl on yajl reads, which leaves a field of the wrong type at its default, and never
    /// gives a value that it would have cut or changed (see the deviations in the crate's documentation).
    Libxl,
}

impl DiskSnapshot {
    /// Reads the struct from libxl-json.
    ///
    /// Nesting may be of any depth. Memory is proportional to the length of `json`, which the caller limits.
    ///
    /// # Errors
    /// [`JsonError`] says where and why; nothing is read in part.
    pub fn from_json(json: &[u8], mode: Mode) -> Result<Self, JsonError> {
        read(json, mode, Reader::disk)
    }
}

impl DomainSnapshot {
    /// Reads the struct from libxl-json.
    ///
    /// Nesting may be of any depth. Memory is proportional to the length of `json`, which the caller limits.
    ///
    /// # Errors
    /// [`JsonError`] says where and why; nothing is read in part.
    pub fn from_json(json: &[u8], mode: Mode) -> Result<Self, JsonError> {
        read(json, mode, Reader::domain)
    }
}

fn read<'a, T>(
    json: &'a [u8],
    mode: Mode,
    value: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>,
) -> Result<T, JsonError> {
    let text = str::from_utf8(json)
        .map_err(|error| Fault::new(error.valid_up_to(), JsonReason::NotUtf8).locate(json))?;
    let mut reader = Reader { cursor: Cursor::new(text), mode };
    let whole = value(&mut reader).and_then(|value| reader.cursor.expect_end().map(|()| value));
    whole.map_err(|fault| fault.locate(json))
}

#[derive(Debug)]
struct Reader<'a> {
    cursor: Cursor<'a>,
    mode: Mode,
}

impl<'a> Reader<'a> {
    fn domain(&mut self) -> Result<DomainSnapshot, Fault> {
        const KEYS: &[&str] = &[
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
        ];
        let mut snapshot = DomainSnapshot::default();
        let into = &mut snapshot;
        self.object(KEYS, |reader, key, again| match key {
            "name" => reader.member(&mut into.name, again, Self::string),
            "description" => reader.member(&mut into.description, again, Self::string),
            "creation_time" => reader.member(&mut into.creation_time, again, Self::time),
            "memory" => reader.member(&mut into.memory, again, Self::string),
            "running" => reader.member(&mut into.running, again, Self::flag),
            "blocked" => reader.member(&mut into.blocked, again, Self::flag),
            "paused" => reader.member(&mut into.paused, again, Self::flag),
            "shutdown" => reader.member(&mut into.shutdown, again, Self::flag),
            "dying" => reader.member(&mut into.dying, again, Self::flag),
            _ => reader.member(&mut into.disks, again, Self::disks),
        })?;
        Ok(snapshot)
    }

    fn disk(&mut self) -> Result<DiskSnapshot, Fault> {
        const KEYS: &[&str] = &["device", "name", "file", "format", "path"];
        let mut snapshot = DiskSnapshot::default();
        let into = &mut snapshot;
        self.object(KEYS, |reader, key, again| match key {
            "device" => reader.member(&mut into.device, again, Self::string),
            "name" => reader.member(&mut into.name, again, Self::string),
            "file" => reader.member(&mut into.file, again, Self::string),
            "format" => reader.member(&mut into.format, again, Self::format),
            _ => reader.member(&mut into.path, again, Self::string),
        })?;
        Ok(snapshot)
    }

    /// An object. `member` is called at the value of each of `keys`, with the key and whether it stood there before.
    fn object(
        &mut self,
        keys: &'static [&'static str],
        mut member: impl FnMut(&mut Self, &'static str, bool) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.cursor.kind()? != Kind::Object {
            return self.wrong_type("an object");
        }
        self.cursor.expect(b'{', "'{'")?;
        self.cursor.skip_space();
        if self.cursor.eat(b'}') {
            return Ok(());
        }
        let mut seen = 0u32;
        let mut others = BTreeSet::new();
        loop {
            let raw = self.cursor.key()?;
            // A key with half of a surrogate pair is none of ours, and libxl makes none of ours of it.
            let name = raw.decode().unwrap_or(Cow::Borrowed(raw.body));
            let as_c = name.split('\0').next().unwrap_or_default();
            match keys.iter().position(|&key| key == as_c) {
                Some(_) if as_c.len() < name.len() => {
                    return Err(Fault::new(raw.at, JsonReason::Nul).in_key(as_c));
                }
                Some(index) => {
                    let again = seen & (1 << index) != 0;
                    if again && self.mode == Mode::Strict {
                        return Err(Fault::new(raw.at, JsonReason::Duplicate).in_key(keys[index]));
                    }
                    seen |= 1 << index;
                    member(self, keys[index], again).map_err(|fault| fault.in_key(keys[index]))?;
                }
                None => {
                    self.cursor.skip_value().map_err(|fault| fault.in_key(&name))?;
                    if self.mode == Mode::Strict
                        && let Some(name) = others.replace(name)
                    {
                        return Err(Fault::new(raw.at, JsonReason::Duplicate).in_key(&name));
                    }
                }
            }
            if !self.cursor.more(b'}', "',' or '}'")? {
                return Ok(());
            }
        }
    }

    /// The value of a key, into its field.
    fn member<T: PartialEq>(
        &mut self,
        field: &mut T,
        again: bool,
        value: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<(), Fault> {
        self.cursor.skip_space();
        let at = self.cursor.at();
        let value = value(self)?;
        if again && *field != value {
            return Err(Fault::new(at, JsonReason::Conflict));
        }
        *field = value;
        Ok(())
    }

    fn disks(&mut self) -> Result<Vec<DiskSnapshot>, Fault> {
        if self.cursor.kind()? != Kind::Array {
            return self.wrong_type("an array");
        }
        self.cursor.expect(b'[', "'['")?;
        self.cursor.skip_space();
        let mut disks = Vec::new();
        if self.cursor.eat(b']') {
            return Ok(disks);
        }
        loop {
            disks.push(self.disk().map_err(|fault| fault.in_element(disks.len()))?);
            if !self.cursor.more(b']', "',' or ']'")? {
                return Ok(disks);
            }
        }
    }

    fn string(&mut self) -> Result<Option<String>, Fault> {
        match self.cursor.kind()? {
            Kind::String => Ok(Some(self.cursor.string("a string")?.decode_c()?.into_owned())),
            Kind::Null => self.cursor.scalar(Kind::Null).map(|_| None),
            _ => self.wrong_type("a string or null"),
        }
    }

    fn flag(&mut self) -> Result<bool, Fault> {
        match self.cursor.kind()? {
            kind @ (Kind::True | Kind::False) => self.cursor.scalar(kind).map(|_| kind == Kind::True),
            _ => self.wrong_type("true or false"),
        }
    }

    fn format(&mut self) -> Result<DiskFormat, Fault> {
        match self.cursor.kind()? {
            Kind::String => {
                let raw = self.cursor.string("a string")?;
                let unknown = |_| Fault::new(raw.at, JsonReason::UnknownFormat(excerpt(raw.body)));
                raw.decode_c()?.parse().map_err(unknown)
            }
            // What libxl writes for a number that it has no name for.
            Kind::Null => self.cursor.scalar(Kind::Null).map(|_| DiskFormat::Unknown),
            _ => self.wrong_type("a string"),
        }
    }

    fn time(&mut self) -> Result<u64, Fault> {
        if self.cursor.kind()? != Kind::Number {
            return self.wrong_type("a number");
        }
        let at = self.cursor.at();
        let text = self.cursor.scalar(Kind::Number)?;
        let fault = |reason: fn(String) -> JsonReason| Err(Fault::new(at, reason(excerpt(text))));
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        if self.mode == Mode::Libxl && !mantissa.contains(|digit: char| matches!(digit, '1'..='9')) {
            // Zero in any spelling: libxl takes the value or leaves the default, which are the same.
            return Ok(0);
        }
        if text.starts_with('-') {
            return fault(JsonReason::NegativeTime);
        }
        if text.contains(['.', 'e', 'E']) {
            return fault(JsonReason::FractionalTime);
        }
        // It is digits only, so that it can only be too long.
        text.parse().or_else(|_| fault(JsonReason::TimeTooLarge))
    }

    /// A value of another type than the key's: an error, or passed over as libxl does, which leaves the default.
    fn wrong_type<T: Default>(&mut self, expected: &'static str) -> Result<T, Fault> {
        let found = self.cursor.kind()?.words();
        if self.mode == Mode::Strict {
            return Err(Fault::new(self.cursor.at(), JsonReason::WrongType { expected, found }));
        }
        self.cursor.skip_value()?;
        Ok(T::default())
    }
}
