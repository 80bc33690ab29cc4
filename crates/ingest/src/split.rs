//! A request's body, split into its events in one pass: each event is a slice of the body, and the few
//! fields that are decided upon are slices of the event. Nothing is decoded but an escaped key.
//!
//! The whole body is checked to be JSON, by the lexer that the privacy scanner walks on: what is split here
//! can be scanned.

use std::borrow::Cow;

use millrace_privacy::ScanError;
use millrace_privacy::json::{Lexer, StringToken};

use crate::error::Refusal;

/// One event of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'b> {
    /// Its JSON, an object.
    pub(crate) json: &'b str,
    pub(crate) fields: Fields<'b>,
}

/// The JSON of the fields that are decided upon. Where a field stands twice, the last one counts, as in
/// nearly every JSON reader.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fields<'b> {
    pub(crate) event_type: Option<&'b str>,
    pub(crate) message_id: Option<&'b str>,
    pub(crate) user_id: Option<&'b str>,
    pub(crate) anonymous_id: Option<&'b str>,
    pub(crate) sent_at: Option<&'b str>,
    pub(crate) received_at: Option<&'b str>,
    pub(crate) request_ip: Option<&'b str>,
    pub(crate) event: Option<&'b str>,
    pub(crate) context: Option<&'b str>,
    pub(crate) integrations: Option<&'b str>,
    pub(crate) write_key: Option<&'b str>,
}

impl<'b> Fields<'b> {
    fn set(&mut self, name: &str, json: &'b str) {
        let slot = match name {
            "type" => &mut self.event_type,
            "messageId" => &mut self.message_id,
            "userId" => &mut self.user_id,
            "anonymousId" => &mut self.anonymous_id,
            "sentAt" => &mut self.sent_at,
            "receivedAt" => &mut self.received_at,
            "request_ip" => &mut self.request_ip,
            "event" => &mut self.event,
            "context" => &mut self.context,
            "integrations" => &mut self.integrations,
            "writeKey" => &mut self.write_key,
            _ => return,
        };
        *slot = Some(json);
    }
}

/// The bounds of splitting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) events: usize,
    /// Fields of all objects of one event.
    pub(crate) fields: usize,
}

/// Fields that stand beside the batch, and the events in it.
#[derive(Debug)]
pub(crate) struct Batch<'b> {
    pub(crate) top: Fields<'b>,
    pub(crate) parts: Vec<Part<'b>>,
}

/// A body that is one event.
pub(crate) fn single(body: &str, bounds: Bounds) -> Result<Part<'_>, Refusal> {
    let mut splitter = Splitter::new(body, bounds);
    if splitter.lexer.peek() != b'{' {
        splitter.other_than_object()?;
        return Err(Refusal::NotAnEvent);
    }
    let part = splitter.event()?;
    splitter.end()?;
    Ok(part)
}

/// A body `{"batch": [event, …], …}`. RudderStack reads one event without its brackets too.
pub(crate) fn batch(body: &str, bounds: Bounds) -> Result<Batch<'_>, Refusal> {
    let mut splitter = Splitter::new(body, bounds);
    if splitter.lexer.peek() != b'{' {
        splitter.other_than_object()?;
        return Err(Refusal::EmptyBatch);
    }
    let mut batch = Batch { top: Fields::default(), parts: Vec::new() };
    // What is wrong with the batch, should the rest of the body be JSON.
    let mut wrong = None;
    splitter.object(|splitter, name| {
        if name != "batch" {
            let mut fields = 0;
            let value = splitter.lexer.skip_value(1, &mut fields)?;
            batch.top.set(name, splitter.text(value));
            return Ok(());
        }
        batch.parts.clear();
        wrong = splitter.events(&mut batch.parts)?;
        Ok(())
    })?;
    splitter.end()?;
    if let Some(refusal) = wrong {
        return Err(refusal);
    }
    if batch.parts.is_empty() {
        return Err(Refusal::EmptyBatch);
    }
    Ok(batch)
}

struct Splitter<'b> {
    body: &'b str,
    lexer: Lexer<'b>,
    bounds: Bounds,
}

/// Why splitting ends at once.
enum Stopped {
    Json(ScanError),
    Refused(Refusal),
}

impl From<ScanError> for Stopped {
    fn from(error: ScanError) -> Self {
        Self::Json(error)
    }
}

impl From<Stopped> for Refusal {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Json(ScanError::TooDeep) => Self::TooDeep,
            Stopped::Json(ScanError::Invalid { .. }) => Self::InvalidJson,
            Stopped::Refused(refusal) => refusal,
        }
    }
}

impl<'b> Splitter<'b> {
    fn new(body: &'b str, bounds: Bounds) -> Self {
        Self { body, lexer: Lexer::new(body.as_bytes()), bounds }
    }

    /// Reads a body that is no object, to tell what is no JSON from what is no event.
    fn other_than_object(&mut self) -> Result<(), Refusal> {
        self.skip()?;
        self.end()
    }

    fn end(&mut self) -> Result<(), Refusal> {
        if self.lexer.at_end() { Ok(()) } else { Err(Refusal::InvalidJson) }
    }

    /// The events of a batch; then what is wrong with it, if it is no batch.
    fn events(&mut self, parts: &mut Vec<Part<'b>>) -> Result<Option<Refusal>, Stopped> {
        match self.lexer.peek() {
            b'{' => {
                parts.push(self.event()?);
                return Ok(None);
            }
            b'n' => {
                self.lexer.literal(b"null")?;
                return Ok(None);
            }
            b'[' => self.lexer.advance(),
            _ => {
                self.skip()?;
                return Ok(Some(Refusal::NotAnEvent));
            }
        }
        let mut wrong = None;
        if self.lexer.peek() == b']' {
            self.lexer.advance();
            return Ok(None);
        }
        loop {
            if self.lexer.peek() == b'{' {
                if parts.len() == self.bounds.events {
                    return Err(Stopped::Refused(Refusal::TooLarge));
                }
                parts.push(self.event()?);
            } else {
                self.skip()?;
                wrong = Some(Refusal::NotAnEvent);
            }
            match self.lexer.peek() {
                b',' => self.lexer.advance(),
                b']' => {
                    self.lexer.advance();
                    return Ok(wrong);
                }
                _ => return Err(self.lexer.invalid("expected a comma or the end of the batch").into()),
            }
        }
    }

    /// An object that is an event. Its depth is counted from here: a batch adds nothing to it.
    fn event(&mut self) -> Result<Part<'b>, Stopped> {
        let start = self.lexer.position();
        let mut fields = Fields::default();
        let mut count = 0;
        self.object(|splitter, name| {
            count += 1;
            let value = splitter.lexer.skip_value(1, &mut count)?;
            fields.set(name, splitter.text(value));
            Ok(())
        })?;
        if count > self.bounds.fields {
            return Err(Stopped::Refused(Refusal::TooManyFields));
        }
        Ok(Part { json: self.text(start..self.lexer.position()), fields })
    }

    /// An object whose brace was seen; `field` reads each value.
    fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &str) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        self.lexer.advance();
        if self.lexer.peek() == b'}' {
            self.lexer.advance();
            return Ok(());
        }
        loop {
            let key = self.lexer.key()?;
            let name = name(self.body, &key);
            field(self, &name)?;
            match self.lexer.peek() {
                b',' => self.lexer.advance(),
                b'}' => {
                    self.lexer.advance();
                    return Ok(());
                }
                _ => return Err(self.lexer.invalid("expected a comma or the end of the object").into()),
            }
        }
    }

    fn skip(&mut self) -> Result<(), Stopped> {
        let mut fields = 0;
        self.lexer.skip_value(0, &mut fields)?;
        Ok(())
    }

    /// A token's text: it begins and ends with ASCII, so it is whole characters.
    fn text(&self, span: std::ops::Range<usize>) -> &'b str {
        self.body.get(span).unwrap_or_default()
    }
}

/// A key as it is meant: `user\u0049d` is `userId`.
fn name<'b>(body: &'b str, key: &StringToken) -> Cow<'b, str> {
    let raw = body.get(key.span.clone()).unwrap_or_default();
    if !key.escaped {
        return Cow::Borrowed(raw);
    }
    // A lone surrogate is in no name that is looked for.
    Cow::Owned(serde_json::from_str(&format!("\"{raw}\"")).unwrap_or_default())
}
