//! A JSON object of texts in the very form in which this crate writes it, read without a parser of JSON.
//!
//! Every event has a header of this kind, and a parser took a tenth of the time of loading it. Whatever looks
//! different in any way is left to the parser.

/// What is left of an object without escapes.
#[derive(Debug)]
pub(crate) struct PlainTexts<'h> {
    rest: &'h str,
}

impl<'h> PlainTexts<'h> {
    pub(crate) fn of(json: &'h [u8]) -> Option<Self> {
        // Without an early end the loop takes sixteen bytes at a time.
        if json.iter().fold(false, |escapes, byte| escapes | matches!(byte, b'\\' | 0..0x20)) {
            return None;
        }
        Some(Self { rest: std::str::from_utf8(json).ok()? })
    }

    /// The text behind these bytes, if they are what comes next.
    pub(crate) fn next(&mut self, before: &str) -> Option<&'h str> {
        let (text, rest) = self.rest.strip_prefix(before)?.split_once('"')?;
        self.rest = rest;
        Some(text)
    }

    /// Whether the object ends here, and nothing follows.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest == "}"
    }
}
