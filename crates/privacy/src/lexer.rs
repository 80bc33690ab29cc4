//! The tokens of JSON, over bytes. Strict as RFC 8259 says, but for lone surrogates in `\u` escapes,
//! which clients do send and every reader here passes on.

use std::ops::Range;

use crate::ScanError;

pub(crate) struct Lexer<'b> {
    input: &'b [u8],
    at: usize,
}

/// A string's bytes between the quotes, still escaped.
pub(crate) struct StringToken {
    pub(crate) span: Range<usize>,
    /// Whether there is a backslash in it.
    pub(crate) escaped: bool,
}

impl<'b> Lexer<'b> {
    pub(crate) fn new(input: &'b [u8]) -> Self {
        Self { input, at: 0 }
    }

    pub(crate) fn invalid(&self, problem: &'static str) -> ScanError {
        ScanError::Invalid { at: self.at, problem }
    }

    /// The next byte that is not white space, not consumed. Zero at the end: no token starts with it.
    pub(crate) fn peek(&mut self) -> u8 {
        while let Some(byte) = self.input.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    pub(crate) fn at_end(&mut self) -> bool {
        self.peek() == 0 && self.at == self.input.len()
    }

    /// Consumes one byte that [`Self::peek`] has shown.
    pub(crate) fn advance(&mut self) {
        self.at += 1;
    }

    pub(crate) fn literal(&mut self, word: &'static [u8]) -> Result<(), ScanError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.invalid("expected true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    /// From the opening quote to past the closing one.
    pub(crate) fn string(&mut self) -> Result<StringToken, ScanError> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.input.get(self.at..).unwrap_or_default();
            let Some(stop) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(self.invalid("a string does not end"));
            };
            let plain = rest.get(..stop).unwrap_or_default();
            if plain.iter().any(|byte| *byte < 0x20) {
                return Err(self.invalid("a control character in a string"));
            }
            self.at += stop;
            if rest.get(stop) == Some(&b'"') {
                let span = start..self.at;
                self.at += 1;
                return Ok(StringToken { span, escaped });
            }
            escaped = true;
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        let length = match self.input.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = self.input.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.invalid("a malformed \\u escape"));
                }
                6
            }
            _ => return Err(self.invalid("an unknown escape")),
        };
        self.at += length;
        Ok(())
    }

    /// From the sign or first digit to past the last.
    pub(crate) fn number(&mut self) -> Result<Range<usize>, ScanError> {
        let start = self.at;
        if self.byte() == b'-' {
            self.at += 1;
        }
        if self.byte() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(start..self.at)
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        if !self.byte().is_ascii_digit() {
            return Err(self.invalid("expected a digit"));
        }
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    fn byte(&self) -> u8 {
        self.input.get(self.at).copied().unwrap_or(0)
    }
}
