//! The syntax of `xl.cfg(5)`: settings out of text.

use super::error::{ConfigReason, Fault};

/// A piece of the file and where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

impl Piece<'_> {
    pub(super) fn fault(&self, reason: ConfigReason) -> Fault {
        Fault::new(self.at, self.text, reason)
    }
}

/// One `KEY=VALUE`.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) key: Piece<'a>,
    pub(super) value: Value<'a>,
}

/// A value; a string's piece is what stands between its quotes.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Text(Piece<'a>),
    List { open: Piece<'a>, elements: Vec<Piece<'a>> },
}

/// The settings of a file, in its order.
pub(super) fn settings(text: &str) -> Result<Vec<Setting<'_>>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut settings = Vec::new();
    loop {
        lexer.skip_ends();
        if lexer.rest().is_empty() {
            return Ok(settings);
        }
        let key = lexer.word().ok_or_else(|| lexer.expected("a key"))?;
        lexer.skip_blank();
        if lexer.take("=").is_none() {
            return Err(lexer.expected("'=' after the key"));
        }
        lexer.skip_blank();
        let value = lexer.value()?;
        lexer.skip_blank();
        if !lexer.rest().is_empty() && !lexer.rest().starts_with(['\n', ';']) {
            return Err(lexer.expected("the end of the line or ';' after the value"));
        }
        settings.push(Setting { key, value });
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Passes over blanks and a comment. The carriage return is a blank, for files with CR LF.
    fn skip_blank(&mut self) {
        let rest = self.rest().trim_start_matches([' ', '\t', '\r']);
        let comment = if rest.starts_with('#') { rest.find('\n').unwrap_or(rest.len()) } else { 0 };
        self.at = self.text.len() - rest.len() + comment;
    }

    /// Passes over blanks, comments and line ends.
    fn skip_lines(&mut self) {
        self.skip_blank();
        while self.take("\n").is_some() {
            self.skip_blank();
        }
    }

    /// Passes over everything that may stand between settings.
    fn skip_ends(&mut self) {
        self.skip_lines();
        while self.take(";").is_some() {
            self.skip_lines();
        }
    }

    fn take(&mut self, token: &str) -> Option<Piece<'a>> {
        self.rest().starts_with(token).then(|| self.piece(token.len()))
    }

    fn piece(&mut self, length: usize) -> Piece<'a> {
        let piece = Piece { at: self.at, text: &self.rest()[..length] };
        self.at += length;
        piece
    }

    /// A run of word characters; `None` when there is none.
    fn word(&mut self) -> Option<Piece<'a>> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = self.rest().find(|c| !word(c)).unwrap_or(self.rest().len());
        (length > 0).then(|| self.piece(length))
    }

    fn value(&mut self) -> Result<Value<'a>, Fault> {
        let Some(open) = self.take("[") else {
            return self.text("a string in quotes, a number or '['").map(Value::Text);
        };
        let mut elements = Vec::new();
        loop {
            self.skip_lines();
            if self.take("]").is_some() {
                return Ok(Value::List { open, elements });
            }
            elements.push(self.text("a string in quotes or ']'")?);
            self.skip_lines();
            if self.take(",").is_none() && !self.rest().starts_with(']') {
                return Err(self.expected("',' or ']'"));
            }
        }
    }

    /// A string or a number.
    fn text(&mut self, expected: &'static str) -> Result<Piece<'a>, Fault> {
        if let Some(quote) = self.take("'").or_else(|| self.take("\"")) {
            let end = self.rest().find([quote.text.as_bytes()[0].into(), '\n']);
            let Some(length) = end.filter(|&end| self.rest()[end..].starts_with(quote.text)) else {
                let line = self.rest().lines().next().unwrap_or_default();
                let text = &self.text[quote.at..self.at + line.len()];
                return Err(Piece { at: quote.at, text }
                    .fault(ConfigReason::Expected("the closing quote on the same line")));
            };
            let string = self.piece(length);
            self.at += 1;
            return Ok(string);
        }
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            let digits = self.rest().find(|c: char| !c.is_ascii_hexdigit() && c != 'x');
            return Ok(self.piece(digits.unwrap_or(self.rest().len())));
        }
        Err(self.expected(expected))
    }

    /// The fault that something else stands here: a word, or one character.
    fn expected(&mut self, expected: &'static str) -> Fault {
        let one = self.rest().chars().next().map_or(0, char::len_utf8);
        let piece = self.word().unwrap_or_else(|| self.piece(one));
        piece.fault(ConfigReason::Expected(expected))
    }
}
