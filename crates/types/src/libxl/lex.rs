//! The tokens of JSON (RFC 8259), pulled one at a time out of a text that is known to be UTF-8.

use std::borrow::Cow;

use super::error::{Fault, JsonReason};

/// A place in a text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// What kind of value begins at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Kind {
    /// The kind in words, for a message.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::True => "true",
            Self::False => "false",
            Self::Null => "null",
        }
    }
}

/// A string's place in the text: its grammar was checked, its escapes are not decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawString<'a> {
    /// Where its opening quote stands.
    pub(super) at: usize,
    /// What stands between the quotes.
    pub(super) body: &'a str,
    escaped: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn syntax(&self, expected: &'static str) -> Fault {
        let found = match self.text[self.at..].chars().next() {
            None => "the end of the text".to_owned(),
            Some('\u{feff}') if self.at == 0 => "a byte order mark".to_owned(),
            Some(c) if c.is_control() => format!("the control character U+{:04X}", u32::from(c)),
            Some(c) => format!("{c:?}"),
        };
        Fault::new(self.at, JsonReason::Syntax { expected, found })
    }

    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes `byte` if it is the next one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// Takes `byte`, which the grammar wants here.
    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Fault> {
        if self.eat(byte) { Ok(()) } else { Err(self.syntax(expected)) }
    }

    /// The end of the text, after white space.
    pub(super) fn expect_end(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.syntax("the end of the text")) }
    }

    /// The kind of the value that begins here, after white space.
    pub(super) fn kind(&mut self) -> Result<Kind, Fault> {
        self.skip_space();
        Ok(match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'n') => Kind::Null,
            _ => return Err(self.syntax("a value")),
        })
    }

    /// A value that is none of object, array and string; gives its text.
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<&'a str, Fault> {
        let start = self.at;
        match kind {
            Kind::True => self.word("true")?,
            Kind::False => self.word("false")?,
            Kind::Null => self.word("null")?,
            _ => self.number()?,
        }
        Ok(&self.text[start..self.at])
    }

    fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        for byte in word.bytes() {
            self.expect(byte, word)?;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.syntax("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    /// A string, from its opening quote, which is `what`.
    pub(super) fn string(&mut self, what: &'static str) -> Result<RawString<'a>, Fault> {
        let at = self.at;
        self.expect(b'"', what)?;
        let mut escaped = false;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            self.at += plain.unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.syntax("a character of a string, or its escape")),
                None => return Err(self.syntax("the end of the string")),
            }
        }
        let body = &self.text[at + 1..self.at];
        self.at += 1;
        Ok(RawString { at, body, escaped })
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.syntax("a hexadecimal digit"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.syntax("one of \" \\ / b f n r t u after a backslash")),
        }
        Ok(())
    }

    /// Passes over one value of any depth. It keeps a byte for each level that is open, and needs no stack.
    pub(super) fn skip_value(&mut self) -> Result<(), Fault> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.kind()? {
                Kind::Object => {
                    self.at += 1;
                    self.skip_space();
                    open.push(b'}');
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                }
                Kind::Array => {
                    self.at += 1;
                    self.skip_space();
                    open.push(b']');
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                Kind::String => {
                    self.string("a string")?;
                }
                scalar => {
                    self.scalar(scalar)?;
                }
            }
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                self.skip_space();
                if self.eat(close) {
                    open.pop();
                } else if self.eat(b',') {
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                } else {
                    return Err(self.syntax(if close == b'}' { "',' or '}'" } else { "',' or ']'" }));
                }
            }
        }
    }

    /// A key and the colon after it.
    pub(super) fn key(&mut self) -> Result<RawString<'a>, Fault> {
        self.skip_space();
        let key = self.string("a key in double quotes")?;
        self.skip_space();
        self.expect(b':', "':'")?;
        Ok(key)
    }

    /// After a member or an element: takes a comma and gives true, or takes `close` and gives false.
    pub(super) fn more(&mut self, close: u8, expected: &'static str) -> Result<bool, Fault> {
        self.skip_space();
        if self.eat(b',') {
            return Ok(true);
        }
        self.expect(close, expected)?;
        Ok(false)
    }
}

impl<'a> RawString<'a> {
    /// The string's text. It may hold U+0000 when it was escaped.
    pub(super) fn decode(self) -> Result<Cow<'a, str>, Fault> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.body));
        }
        let mut out = String::with_capacity(self.body.len());
        let mut rest = self.body;
        while let Some(at) = rest.bytes().position(|byte| byte == b'\\') {
            out.push_str(&rest[..at]);
            let place = self.at + 1 + (self.body.len() - rest.len()) + at;
            let (decoded, length) =
                unescape(&rest[at..]).ok_or_else(|| Fault::new(place, JsonReason::HalfSurrogate))?;
            out.push(decoded);
            rest = &rest[at + length..];
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }

    /// The text for use by a C program: no U+0000 in it.
    pub(super) fn decode_c(self) -> Result<Cow<'a, str>, Fault> {
        let text = self.decode()?;
        // Only an escape can give U+0000: the grammar refuses the raw character.
        if self.escaped && text.contains('\0') {
            return Err(Fault::new(self.at, JsonReason::Nul));
        }
        Ok(text)
    }
}

/// The character of the escape at the start of `text`, whose grammar was checked, and the escape's length. `None` for
/// half of a surrogate pair.
fn unescape(text: &str) -> Option<(char, usize)> {
    let simple = match text.as_bytes()[1] {
        b'u' => {
            let high = unit(text);
            if let Some(c) = char::from_u32(high) {
                return Some((c, 6));
            }
            let low = text[6..].starts_with("\\u").then(|| unit(&text[6..]))?;
            if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
                return None;
            }
            return Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12));
        }
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        itself => char::from(itself),
    };
    Some((simple, 2))
}

fn unit(text: &str) -> u32 {
    u32::from_str_radix(&text[2..6], 16).expect("the lexer saw four hexadecimal digits")
}
