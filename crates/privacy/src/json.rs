//! The tokens of JSON, over bytes: what the scanner walks on, and what ingest splits a request by, so that
//! both agree on what JSON is. Strict as RFC 8259 says, but for lone surrogates in `\u` escapes, which
//! clients do send and every reader here passes on.
//!
//! Nothing is decoded and nothing allocated: a token is a range of the input.

use std::ops::Range;

use wide::u8x16;

use crate::{MAX_DEPTH, ScanError};

/// Reads tokens from the front. Whoever calls it knows the grammar: what may come next.
#[derive(Debug, Clone)]
pub struct Lexer<'b> {
    input: &'b [u8],
    at: usize,
}

/// A string's bytes between the quotes, still escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringToken {
    /// Without the quotes.
    pub span: Range<usize>,
    /// Whether there is a backslash in it.
    pub escaped: bool,
}

impl<'b> Lexer<'b> {
    /// Stands before the first byte. The input should be UTF-8: strings are not checked for it.
    #[must_use]
    pub fn new(input: &'b [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// How many bytes are consumed.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The error for what stands here.
    #[must_use]
    pub fn invalid(&self, problem: &'static str) -> ScanError {
        ScanError::Invalid { at: self.at, problem }
    }

    /// The next byte that is not white space, not consumed. Zero at the end: no token starts with it.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        while let Some(byte) = self.input.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    /// Whether nothing but white space is left.
    pub fn at_end(&mut self) -> bool {
        self.peek() == 0 && self.at == self.input.len()
    }

    /// Consumes one byte that [`Self::peek`] has shown.
    #[inline]
    pub fn advance(&mut self) {
        self.at += 1;
    }

    /// Consumes a word.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn literal(&mut self, word: &'static [u8]) -> Result<(), ScanError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.invalid("expected true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    /// From the opening quote to past the closing one.
    ///
    /// # Errors
    /// The string does not end, or has a control character or a malformed escape.
    #[inline]
    pub fn string(&mut self) -> Result<StringToken, ScanError> {
        let start = self.at + 1;
        let end = plain_end(self.input, start);
        if self.input.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(StringToken { span: start..end, escaped: false });
        }
        self.at = end;
        self.special_string(start)
    }

    /// The rest of a string that has something besides plain text, from there on.
    #[cold]
    fn special_string(&mut self, start: usize) -> Result<StringToken, ScanError> {
        loop {
            match self.input.get(self.at) {
                Some(b'"') => {
                    let span = start..self.at;
                    self.at += 1;
                    return Ok(StringToken { span, escaped: true });
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.invalid("a control character in a string")),
                None => return Err(self.invalid("a string does not end")),
            }
            self.at = plain_end(self.input, self.at);
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
    ///
    /// # Errors
    /// It is not a number as JSON has it.
    pub fn number(&mut self) -> Result<Range<usize>, ScanError> {
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

    #[inline]
    fn byte(&self) -> u8 {
        self.input.get(self.at).copied().unwrap_or(0)
    }

    /// Consumes the key of an object's field and the colon behind it.
    ///
    /// # Errors
    /// No key, or no colon.
    #[inline]
    pub fn key(&mut self) -> Result<StringToken, ScanError> {
        if self.peek() != b'"' {
            return Err(self.invalid("expected a key"));
        }
        let token = self.string()?;
        if self.peek() != b':' {
            return Err(self.invalid("expected a colon"));
        }
        self.advance();
        Ok(token)
    }

    /// Consumes a whole value and returns its bytes; `fields` grows by the keys of all objects in it.
    ///
    /// # Errors
    /// The value is not JSON, or more than [`MAX_DEPTH`] objects and arrays stand inside one another, of
    /// which the caller has opened `depth`.
    #[inline]
    pub fn skip_value(&mut self, depth: usize, fields: &mut usize) -> Result<Range<usize>, ScanError> {
        let first = self.peek();
        let start = self.at;
        match first {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' => self.skip_nested(depth, fields)?,
            _ => self.scalar(first)?,
        }
        Ok(start..self.at)
    }

    /// Consumes a number or a literal that begins with this byte.
    fn scalar(&mut self, first: u8) -> Result<(), ScanError> {
        match first {
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(self.invalid("expected a value")),
        }
    }

    /// An object or array, without recursion: what is open is a bit each, one for an object.
    fn skip_nested(&mut self, depth: usize, fields: &mut usize) -> Result<(), ScanError> {
        let mut open: u128 = 0;
        let mut level = 0;
        loop {
            // Before a value.
            let first = self.peek();
            let mut done = true;
            match first {
                b'{' | b'[' => {
                    level += 1;
                    if depth + level > MAX_DEPTH {
                        return Err(ScanError::TooDeep);
                    }
                    open = open << 1 | u128::from(first == b'{');
                    self.advance();
                    let close = if first == b'{' { b'}' } else { b']' };
                    if self.peek() != close {
                        if first == b'{' {
                            self.key()?;
                            *fields += 1;
                        }
                        done = false;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                _ => self.scalar(first)?,
            }
            // Behind a value: close what ends, until there is another value.
            while done {
                let in_object = open & 1 == 1;
                match (self.peek(), in_object) {
                    (b',', true) => {
                        self.advance();
                        self.key()?;
                        *fields += 1;
                        done = false;
                    }
                    (b',', false) => {
                        self.advance();
                        done = false;
                    }
                    (b'}', true) | (b']', false) => {
                        self.advance();
                        level -= 1;
                        open >>= 1;
                        if level == 0 {
                            return Ok(());
                        }
                    }
                    _ => return Err(self.invalid("expected a comma or the end of the object or array")),
                }
            }
        }
    }
}

/// Where a run of plain text ends: at the next quote, backslash or control character, or with the input.
/// Sixteen bytes at a time: most strings are shorter.
#[inline]
fn plain_end(input: &[u8], from: usize) -> usize {
    const QUOTE: u8x16 = u8x16::new([b'"'; 16]);
    const BACKSLASH: u8x16 = u8x16::new([b'\\'; 16]);
    const LAST_CONTROL: u8x16 = u8x16::new([0x1f; 16]);
    let mut at = from;
    while let Some(bytes) = input.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        let text = u8x16::new(*bytes);
        let control = text.min(LAST_CONTROL).simd_eq(text);
        let stops = (text.simd_eq(QUOTE) | text.simd_eq(BACKSLASH) | control).to_bitmask();
        if stops != 0 {
            return at + stops.trailing_zeros() as usize;
        }
        at += 16;
    }
    while input.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        at += 1;
    }
    at
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn skip(json: &str) -> Result<(Range<usize>, usize), ScanError> {
        let mut lexer = Lexer::new(json.as_bytes());
        let mut fields = 0;
        let span = lexer.skip_value(0, &mut fields)?;
        Ok((span, fields))
    }

    #[test]
    fn a_value_is_skipped_whole_and_its_fields_are_counted() {
        for (json, fields) in [
            (r#""a""#, 0),
            ("12", 0),
            ("{}", 0),
            ("[]", 0),
            (r#"{"a":[1,{"b":{}},[[]]],"c":"\"}"}"#, 3),
            (r#"[ {"a" : null } , true,false ]"#, 1),
        ] {
            assert_eq!(skip(json).unwrap(), (0..json.len(), fields), "{json}");
        }
        assert_eq!(skip(r#"  [1] ,"#).unwrap().0, 2..5);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            "[1}",
            "{\"a\":1]",
            "tru",
            "01x",
            "\"",
            "\"\u{1}\"",
            "nul",
            "[1 2]",
            "{,}",
        ] {
            // `01x` is the number 0 with more behind it, which the caller finds.
            assert!(skip(bad).is_err() || bad == "01x", "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(skip(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(skip(&nested(MAX_DEPTH + 1)), Err(ScanError::TooDeep));
        let mut lexer = Lexer::new(b"[[]]");
        assert_eq!(lexer.skip_value(MAX_DEPTH - 1, &mut 0), Err(ScanError::TooDeep));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_string_ends_where_serde_json_says(content in any::<String>(), tail in "[\\x00-\\x7f]{0,20}") {
            let json = serde_json::to_string(&content).unwrap();
            let input = format!("{json}{tail}");
            let mut lexer = Lexer::new(input.as_bytes());
            let token = lexer.string().unwrap();
            prop_assert_eq!(token.span, 1..json.len() - 1);
            prop_assert_eq!(token.escaped, json.contains('\\'));
        }

        #[test]
        fn it_agrees_with_serde_json_on_what_is_json(text in "[\\[\\]{}:,\"a1e.\\\\ntrue -]{0,12}") {
            let ours = skip(&text).is_ok_and(|(span, _)| {
                text.get(span.end..).is_some_and(|rest| rest.trim_matches([' ', '\t', '\n', '\r']).is_empty())
            });
            prop_assert_eq!(ours, serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
        }
    }
}
