//! The walk over an event: tokens in, findings and a rewritten body out.

use std::borrow::Cow;
use std::ops::Range;

use crate::detect::{self, Hit};
use crate::filter::{self, Suspicion};
use crate::json::{Lexer, StringToken};
use crate::key::{self, Hint};
use crate::replace::{self, InKey};
use crate::suspects::Suspects;
use crate::text::{self, Unit};
use crate::{Action, Finding, Kind, MAX_DEPTH, ScanError, Scanned, Scanner};

/// A finding's path is cut here: findings are many, and keys are the client's.
const MAX_PATH_BYTES: usize = 256;

/// Fields of the event's top level that say who or which: masking would make all people one, so they
/// stay as sent. `messageId` recognises retries.
const IDENTITY_FIELDS: [&str; 5] = ["userId", "anonymousId", "groupId", "previousId", "messageId"];

/// The bytes of a hit in the input.
pub(crate) fn bytes(units: &[Unit], hit: &Hit) -> Range<usize> {
    let start = units.get(hit.units.start).map_or(0, |unit| unit.start);
    let end = units.get(hit.units.end - 1).map_or(start, |unit| unit.end);
    start..end
}

/// An object or array that is open.
struct Frame {
    place: Place,
    /// What the key says of the values; found out when first asked.
    hint: Option<Hint>,
}

enum Place {
    /// At this key: the bytes between its quotes.
    Key(Range<usize>),
    /// At a key that was masked.
    MaskedKey(String),
    /// At this index.
    Index(usize),
}

pub(crate) struct Walk<'s, 'b> {
    scanner: &'s Scanner,
    input: &'b str,
    lexer: Lexer<'b>,
    suspects: Suspects,
    frames: Vec<Frame>,
    /// The string under examination; kept to reuse its memory.
    units: Vec<Unit>,
    output: Vec<u8>,
    /// How much of the input the output has.
    copied: usize,
    findings: Vec<Finding>,
    masked_keys: [u32; Kind::ALL.len()],
}

impl<'s, 'b> Walk<'s, 'b> {
    pub(crate) fn new(scanner: &'s Scanner, input: &'b str, suspects: Suspects) -> Self {
        Self {
            scanner,
            input,
            lexer: Lexer::new(input.as_bytes()),
            suspects,
            frames: Vec::new(),
            units: Vec::new(),
            output: Vec::new(),
            copied: 0,
            findings: Vec::new(),
            masked_keys: [0; Kind::ALL.len()],
        }
    }

    pub(crate) fn document(&mut self) -> Result<(), ScanError> {
        loop {
            let opened = self.value()?;
            if !opened && !self.next_value()? {
                break;
            }
        }
        if self.lexer.at_end() { Ok(()) } else { Err(self.lexer.invalid("more after the value")) }
    }

    /// Reads a value. True: it opened an object or array, and stands before the first value inside.
    fn value(&mut self) -> Result<bool, ScanError> {
        match self.lexer.peek() {
            b'{' => {
                self.open(Place::Key(0..0))?;
                if self.lexer.peek() == b'}' {
                    return Ok(false);
                }
                self.key()?;
                return Ok(true);
            }
            b'[' => {
                self.open(Place::Index(0))?;
                return Ok(self.lexer.peek() != b']');
            }
            b'"' => {
                let token = self.lexer.string()?;
                self.string(&token);
            }
            b'-' | b'0'..=b'9' => {
                let span = self.lexer.number()?;
                self.number(span);
            }
            b't' => self.lexer.literal(b"true")?,
            b'f' => self.lexer.literal(b"false")?,
            b'n' => self.lexer.literal(b"null")?,
            _ => return Err(self.lexer.invalid("expected a value")),
        }
        Ok(false)
    }

    fn open(&mut self, place: Place) -> Result<(), ScanError> {
        if self.frames.len() == MAX_DEPTH {
            return Err(ScanError::TooDeep);
        }
        self.frames.push(Frame { place, hint: None });
        self.lexer.advance();
        Ok(())
    }

    /// Goes on after a value, closing what ends. False: the document is complete.
    fn next_value(&mut self) -> Result<bool, ScanError> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(false) };
            let next = self.lexer.peek();
            match (&mut frame.place, next) {
                (Place::Index(index), b',') => {
                    *index += 1;
                    self.lexer.advance();
                    return Ok(true);
                }
                (Place::Key(_) | Place::MaskedKey(_), b',') => {
                    self.lexer.advance();
                    self.key()?;
                    return Ok(true);
                }
                (Place::Index(_), b']') | (Place::Key(_) | Place::MaskedKey(_), b'}') => {
                    self.lexer.advance();
                    self.frames.pop();
                }
                _ => return Err(self.lexer.invalid("expected a comma or the end of the object or array")),
            }
        }
    }

    fn key(&mut self) -> Result<(), ScanError> {
        let token = self.lexer.key()?;
        let parent = self.frames.len().saturating_sub(1);
        let hits = self.hits(&token, parent);
        let mut masked = None;
        if !hits.is_empty() {
            masked = Some(self.mask_key(&token, &hits));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.hint = None;
            frame.place = masked.map_or(Place::Key(token.span), Place::MaskedKey);
        }
        for hit in hits {
            self.found(hit.kind);
        }
        Ok(())
    }

    fn mask_key(&mut self, token: &StringToken, hits: &[Hit]) -> String {
        let mut name = String::new();
        let mut read = token.span.start;
        for hit in hits {
            let ordinal = self.masked_keys.get_mut(hit.kind as usize).map_or(1, |count| {
                *count += 1;
                *count
            });
            let action = self.scanner.policy().action(hit.kind);
            let span = bytes(&self.units, hit);
            let place = InKey { whole: span == token.span, ordinal };
            let text = replace::key(hit.kind, action, &hit.canonical, self.scanner.hash_key(), place);
            name.push_str(&unescaped(self.input.get(read..span.start).unwrap_or_default()));
            name.push_str(&text);
            read = span.end;
            self.replace(span, &text);
        }
        name.push_str(&unescaped(self.input.get(read..token.span.end).unwrap_or_default()));
        name.truncate(name.floor_char_boundary(MAX_PATH_BYTES));
        name
    }

    fn string(&mut self, token: &StringToken) {
        let hits = self.hits(token, self.frames.len());
        if hits.is_empty() || self.is_identity() {
            return;
        }
        for hit in hits {
            let text = self.scanner.replacement(&hit);
            let span = bytes(&self.units, &hit);
            // A truncated address is an address, and is its own truncation.
            if self.input.get(span.clone()) != Some(text.as_str()) {
                self.replace(span, &text);
                self.found(hit.kind);
            }
        }
    }

    fn number(&mut self, span: Range<usize>) {
        if !self.suspects.any_in(&span) {
            return;
        }
        let token = self.input.get(span.clone()).unwrap_or_default();
        let Some(digits) = filter::integer(token) else { return };
        if self.is_identity() {
            return;
        }
        let hint = self.hint(self.frames.len());
        let wanted = |kind| self.scanner.policy().action(kind) != Action::Keep;
        let kind = if wanted(Kind::Phone) && hint == Hint::Phone && detect::is_plausible_length(digits.len())
        {
            Kind::Phone
        } else if wanted(Kind::Card) && detect::is_card_number(&digits, true, hint) {
            Kind::Card
        } else {
            return;
        };
        let text = self.scanner.replacement(&Hit { kind, units: 0..0, canonical: digits });
        self.replace(span, &format!("\"{text}\""));
        self.found(kind);
    }

    /// What is in a string that stands inside the first `depth` frames. Decodes only what the cheap
    /// filters let through.
    fn hits(&mut self, token: &StringToken, depth: usize) -> Vec<Hit> {
        if !self.suspects.any_in(&token.span) {
            return Vec::new();
        }
        let raw = self.input.get(token.span.clone()).unwrap_or_default();
        let suspicion = filter::suspicion(raw.as_bytes(), token.escaped);
        if suspicion == Suspicion::None {
            return Vec::new();
        }
        let hint = self.hint(depth);
        if suspicion == Suspicion::IfKeyed && !matches!(hint, Hint::Phone | Hint::Ip) {
            return Vec::new();
        }
        text::decode(raw, token.span.start, &mut self.units);
        detect::find(&mut self.units, hint, self.scanner.policy())
    }

    /// What the keys around say of a value inside the first `depth` frames. Arrays speak for their
    /// elements, and `{"phone": {"home": …}}` for what it holds.
    fn hint(&mut self, depth: usize) -> Hint {
        let mut hint = Hint::None;
        let mut asked = depth;
        while let Some(frame) = asked.checked_sub(1).and_then(|at| self.frames.get(at)) {
            if let Some(known) = frame.hint {
                hint = known;
                break;
            }
            let name: Cow<'_, str> = match &frame.place {
                Place::Index(_) => {
                    asked -= 1;
                    continue;
                }
                Place::Key(span) => unescaped(self.input.get(span.clone()).unwrap_or_default()),
                Place::MaskedKey(name) => Cow::Borrowed(name),
            };
            hint = key::hint(&name);
            if hint != Hint::None || !key::is_qualifier(&name) {
                break;
            }
            asked -= 1;
        }
        // Remembered, so that a long array deep inside asks once.
        if let Some(frame) = depth.checked_sub(1).and_then(|at| self.frames.get_mut(at)) {
            frame.hint = Some(hint);
        }
        hint
    }

    fn is_identity(&self) -> bool {
        let [Frame { place: Place::Key(span), .. }] = self.frames.as_slice() else { return false };
        let raw = self.input.get(span.clone()).unwrap_or_default();
        IDENTITY_FIELDS.contains(&unescaped(raw).as_ref())
    }

    fn replace(&mut self, span: Range<usize>, text: &str) {
        let kept = self.input.get(self.copied..span.start).unwrap_or_default();
        self.output.extend_from_slice(kept.as_bytes());
        self.output.extend_from_slice(text.as_bytes());
        self.copied = span.end;
    }

    fn found(&mut self, kind: Kind) {
        let finding = Finding { path: self.path(), kind, action: self.scanner.policy().action(kind) };
        self.findings.push(finding);
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            if !path.is_empty() {
                path.push('.');
            }
            match &frame.place {
                Place::Index(index) => path.push_str(&index.to_string()),
                Place::MaskedKey(name) => path.push_str(name),
                Place::Key(span) => {
                    let key = self.input.get(span.clone()).unwrap_or_default();
                    let shown = key.floor_char_boundary(MAX_PATH_BYTES);
                    path.push_str(&unescaped(key.get(..shown).unwrap_or_default()));
                }
            }
            if path.len() > MAX_PATH_BYTES {
                path.truncate(path.floor_char_boundary(MAX_PATH_BYTES));
                break;
            }
        }
        path
    }

    pub(crate) fn finish(mut self) -> Scanned<'b> {
        if self.copied == 0 {
            return Scanned { body: Cow::Borrowed(self.input.as_bytes()), findings: self.findings };
        }
        let rest = self.input.get(self.copied..).unwrap_or_default();
        self.output.extend_from_slice(rest.as_bytes());
        Scanned { body: Cow::Owned(self.output), findings: self.findings }
    }
}

fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') || raw.len() > MAX_PATH_BYTES {
        return Cow::Borrowed(raw);
    }
    let mut units = Vec::new();
    text::decode(raw, 0, &mut units);
    Cow::Owned(units.iter().map(|unit| unit.ch).collect())
}
