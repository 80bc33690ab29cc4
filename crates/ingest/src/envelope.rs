//! From the bytes of a request to its events: pure, and all decisions about an event are here.
//!
//! The client's JSON is split, not parsed (`split.rs`): an event's body is a slice of the request's. The
//! checks come in the order of RudderStack's gateway, and the first event that fails one fails the whole
//! request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_event_model::topics::MAX_MESSAGE_BYTES;
use millrace_event_model::wire::WriteRecord as _;
use millrace_event_model::{EventRef, EventType, KeyHasher, PartitionKey, SourceId, rudder_id};
use millrace_privacy::{Action, Kind, ScanError, Scanner, Suppressions};
use uuid::Uuid;

use crate::block::BlockedEvents;
use crate::error::Refusal;
use crate::geo::Locator;
use crate::place::Places;
use crate::split::{self, Bounds, Fields, Part};
use crate::{Limits, identity};

/// What the path says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One event, whose type is the path's, whatever it says itself.
    Single(EventType),
    /// One event of a type of the path's that is none of the usual.
    Other(&'static str),
    /// `{"batch": [event, …], "sentAt"?: …}`; each event has its own type.
    Batch,
    /// A batch of events that were received before: each keeps its `receivedAt`.
    Replay,
    /// A batch from one of Segment's libraries, which write `context` and `integrations` once, beside the
    /// batch: they fill in where an event has none. RudderStack's server merges nothing.
    SegmentBatch,
}

/// What a source asks for.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Its name.
    pub id: SourceId,
    /// Its privacy policy; without one, everything is kept.
    pub scanner: Option<Scanner>,
    /// Names the policy in each event's header.
    pub policy_version: Option<String>,
    /// Events that it does not want.
    pub blocked: BlockedEvents,
}

/// What is known of a request besides its body.
#[derive(Debug)]
pub struct Envelope<'r> {
    /// What the body is.
    pub shape: Shape,
    /// Of the request's source.
    pub rules: &'r Rules,
    /// What is too much.
    pub limits: &'r Limits,
    /// Makes the keys that keep a person's events in order.
    pub keys: &'r KeyHasher,
    /// The users who asked to be forgotten.
    pub suppressions: &'r Suppressions,
    /// Knows where addresses are.
    pub locator: Option<&'r Locator>,
    /// When the whole body was here.
    pub received_at: DateTime<Utc>,
    /// Of the client, before the policy.
    pub address: &'r str,
    /// W3C trace context of the request.
    pub traceparent: Option<&'r str>,
}

/// A request's events, ready to publish.
#[derive(Debug)]
pub struct Opened<'r> {
    /// Those of the events, in the order of the request.
    decided: Vec<Decided<'r>>,
    /// The batch's, for events that have none.
    sent_at: Option<String>,
    /// The client's address after the policy.
    request_ip: Option<String>,
    rules: &'r Rules,
    traceparent: Option<&'r str>,
    /// How much was replaced in them, for the metrics.
    pub(crate) findings: BTreeMap<(Kind, Action), u64>,
    /// Events of the request that are answered as if they were stored, and are not.
    pub(crate) dropped: Dropped,
}

/// Counts of events, by why they are dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The source blocks them by their names.
    pub(crate) blocked: u64,
    /// Their users asked to be forgotten.
    pub(crate) suppressed: u64,
}

/// What is decided about one event.
#[derive(Debug)]
struct Decided<'r> {
    event_type: Cow<'r, str>,
    message_id: Cow<'r, str>,
    rudder_id: Uuid,
    received_at: DateTime<Utc>,
    key: PartitionKey,
    /// It has no `sentAt` of its own.
    takes_sent_at: bool,
    /// It has no `request_ip` of its own.
    takes_request_ip: bool,
    place: Option<Arc<str>>,
    body: Cow<'r, str>,
}

/// A batch's `sentAt` is a time; longer text is none, and would only weigh on each event's header.
const MAX_SENT_AT_BYTES: usize = 64;

/// The same for a type that nobody knows.
const MAX_TYPE_BYTES: usize = 128;

/// Event types that RudderStack lets pass without any id: rows of a warehouse or a source.
const TYPES_WITHOUT_IDENTITY: [&str; 2] = ["extract", "record"];

impl Opened<'_> {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.decided.len()
    }

    /// The events as they go to Kafka.
    pub fn events(&self) -> impl ExactSizeIterator<Item = EventRef<'_>> {
        self.decided.iter().map(|event| EventRef {
            event_type: &event.event_type,
            message_id: &event.message_id,
            rudder_id: event.rudder_id,
            received_at: event.received_at,
            sent_at: self.sent_at.as_deref().filter(|_| event.takes_sent_at),
            request_ip: self.request_ip.as_deref().filter(|_| event.takes_request_ip),
            geo: event.place.as_deref(),
            source: &self.rules.id,
            policy: self.rules.policy_version.as_deref(),
            traceparent: self.traceparent,
            key: event.key,
            body: event.body.as_bytes(),
        })
    }
}

impl<'r> Envelope<'r> {
    /// Splits the body and decides about each event. `new_id` makes message ids.
    ///
    /// # Errors
    /// The body is not what the path wants, or too much, or the policy cannot be applied.
    pub fn open(&self, body: &'r [u8], new_id: impl Fn() -> Uuid) -> Result<Opened<'r>, Refusal> {
        let body = std::str::from_utf8(body).map_err(|_| Refusal::InvalidJson)?;
        let bounds = Bounds { events: self.limits.events_per_request, fields: self.limits.fields_per_event };
        let (parts, top) = match self.shape {
            Shape::Single(_) | Shape::Other(_) => (vec![split::single(body, bounds)?], Fields::default()),
            Shape::Batch | Shape::Replay | Shape::SegmentBatch => {
                let batch = split::batch(body, bounds)?;
                (batch.parts, batch.top)
            }
        };
        let mut people = Vec::with_capacity(parts.len());
        for part in &parts {
            people.push(self.identity(&part.fields)?);
        }
        // Filled in, a few bytes of an event may become many, and many of them more than memory: the bound of a
        // body holds for what it becomes, too.
        let mut total = 0;
        for part in &parts {
            let bytes = self.filled_in_bytes(part, &top);
            total += bytes;
            if bytes > self.limits.event_bytes || total > self.limits.body_bytes {
                return Err(Refusal::TooLarge);
            }
        }
        let mut opened = Opened {
            decided: Vec::with_capacity(parts.len()),
            sent_at: top.sent_at.and_then(time_text).map(|text| self.outside(text).into_owned()),
            request_ip: self.request_ip(),
            rules: self.rules,
            traceparent: self.traceparent,
            findings: BTreeMap::new(),
            dropped: Dropped::default(),
        };
        let mut places = Places::new(self.locator, self.rules.scanner.as_ref());
        // Most sources block nothing and have nobody to forget: then no event is looked at for it.
        let (blocks, forgets) = (!self.rules.blocked.is_empty(), !self.suppressions.is_empty(&self.rules.id));
        for (part, person) in parts.iter().zip(people) {
            if blocks && self.rules.blocked.contains(&self.event_type(&part.fields), part.fields.event) {
                opened.dropped.blocked += 1;
                continue;
            }
            if forgets && self.is_suppressed(&person) {
                opened.dropped.suppressed += 1;
                continue;
            }
            let mut json = Cow::Borrowed(part.json);
            if self.shape == Shape::SegmentBatch {
                json = filled_in(part, &top);
            }
            let body = self.mask(json, &mut opened.findings)?;
            let place = self.place(&part.fields, &top, &mut places);
            opened.decided.push(self.decide(&part.fields, &person, place, body, &new_id));
        }
        // What the policy puts in can be longer than what it replaces, and an id can be as long as the event. The
        // producer would refuse the one record when those before it are on their way.
        if opened.events().any(|event| !fits(event)) {
            return Err(Refusal::TooLarge);
        }
        Ok(opened)
    }

    /// How long an event is with what the batch lends it (`filled_in`).
    fn filled_in_bytes(&self, part: &Part<'_>, top: &Fields<'_>) -> usize {
        if self.shape != Shape::SegmentBatch {
            return part.json.len();
        }
        // Quotes, colon and comma.
        let lent = |name: &str, own: Option<&str>, beside: Option<&str>| {
            beside.filter(|_| own.is_none()).map_or(0, |json| json.len() + name.len() + 4)
        };
        let context = lent("context", part.fields.context, top.context);
        part.json.len() + context + lent("integrations", part.fields.integrations, top.integrations)
    }

    fn identity(&self, fields: &Fields<'r>) -> Result<Person<'r>, Refusal> {
        let person =
            Person { user_id: identity::id(fields.user_id), anonymous_id: identity::id(fields.anonymous_id) };
        let nobody = person.user_id.is_empty() && person.anonymous_id.is_empty();
        if nobody && !TYPES_WITHOUT_IDENTITY.contains(&self.event_type(fields).as_ref()) {
            return Err(Refusal::NoIdentity);
        }
        Ok(person)
    }

    fn is_suppressed(&self, person: &Person<'_>) -> bool {
        !person.user_id.is_empty()
            && self.suppressions.contains(self.keys.user(&person.user_id), &self.rules.id)
    }

    /// By the event as it was sent, before the policy truncates addresses.
    fn place(&self, fields: &Fields<'r>, top: &Fields<'r>, places: &mut Places<'_>) -> Option<Arc<str>> {
        self.locator?;
        let filled_in = top.context.filter(|_| self.shape == Shape::SegmentBatch);
        let own = fields.request_ip.and_then(identity::string);
        places.of_event(fields.context.or(filled_in), [own, Some(Cow::Borrowed(self.address))])
    }

    fn decide(
        &self,
        fields: &Fields<'r>,
        person: &Person<'r>,
        place: Option<Arc<str>>,
        body: Cow<'r, str>,
        new_id: impl Fn() -> Uuid,
    ) -> Decided<'r> {
        let sent_id = fields.message_id.filter(|json| json.starts_with('"')).map(identity::text);
        let message_id = sent_id.map(identity::visible).filter(|id| !id.is_empty());
        Decided {
            event_type: self.outside(self.event_type(fields)),
            message_id: message_id.unwrap_or_else(|| Cow::Owned(new_id().to_string())),
            rudder_id: rudder_id(&person.user_id, &person.anonymous_id),
            received_at: self.received_at(fields),
            key: self.keys.person(&person.anonymous_id, &person.user_id),
            takes_sent_at: fields.sent_at.is_none_or(|json| matches!(json, "null" | "\"\"")),
            // The body's own address stands, as at RudderStack; the policy has seen it there.
            takes_request_ip: fields.request_ip.is_none(),
            place,
            body,
        }
    }

    /// Now, but for what was received before. A client's own `receivedAt` counts for nothing.
    fn received_at(&self, fields: &Fields<'r>) -> DateTime<Utc> {
        if self.shape != Shape::Replay {
            return self.received_at;
        }
        let text = fields.received_at.and_then(identity::string);
        let first = text.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
        first.map_or(self.received_at, |at| at.with_timezone(&Utc))
    }

    fn request_ip(&self) -> Option<String> {
        let address = Some(self.address).filter(|address| !address.is_empty())?;
        match &self.rules.scanner {
            Some(scanner) => scanner.request_ip(address),
            None => Some(address.to_owned()),
        }
    }

    /// The type of the path, else the event's own. `Track` is `track`; what is not known stays as it is,
    /// for the consumers to reject with a reason.
    fn event_type(&self, fields: &Fields<'r>) -> Cow<'r, str> {
        match self.shape {
            Shape::Single(event_type) => return Cow::Borrowed(event_type.as_str()),
            Shape::Other(event_type) => return Cow::Borrowed(event_type),
            Shape::Batch | Shape::Replay | Shape::SegmentBatch => {}
        }
        let text = fields.event_type.map(identity::text).unwrap_or_default();
        if let Ok(known) = text.parse::<EventType>() {
            return Cow::Borrowed(known.as_str());
        }
        let name = text.trim().to_lowercase();
        if let Ok(known) = name.parse::<EventType>() {
            return Cow::Borrowed(known.as_str());
        }
        if TYPES_WITHOUT_IDENTITY.contains(&name.as_str()) {
            return Cow::Owned(name);
        }
        Cow::Owned(text.get(..text.floor_char_boundary(MAX_TYPE_BYTES)).unwrap_or_default().to_owned())
    }

    /// Client text that goes into a header is under the same policy as the body. Our own names are not.
    fn outside<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match (&self.rules.scanner, text) {
            (Some(scanner), text) if text.parse::<EventType>().is_err() => {
                Cow::Owned(scanner.text(&text).into_owned())
            }
            (_, text) => text,
        }
    }

    fn mask(
        &self,
        json: Cow<'r, str>,
        findings: &mut BTreeMap<(Kind, Action), u64>,
    ) -> Result<Cow<'r, str>, Refusal> {
        let Some(scanner) = &self.rules.scanner else { return Ok(json) };
        let scanned = scanner.scan_valid(&json).map_err(|error| match error {
            // Deeper than any consumer reads: the same for every try, so not a 503.
            ScanError::TooDeep => Refusal::TooDeep,
            ScanError::Invalid { .. } => Refusal::Unmaskable,
        })?;
        for finding in &scanned.findings {
            *findings.entry((finding.kind, finding.action)).or_default() += 1;
        }
        match scanned.body {
            Cow::Borrowed(_) => Ok(json),
            Cow::Owned(masked) => String::from_utf8(masked).map(Cow::Owned).map_err(|_| Refusal::Unmaskable),
        }
    }
}

/// What the header has besides the texts of the client.
const OWN_HEADER_BYTES: usize = 4096;

/// A character in JSON takes as much at most.
const LONGEST_ESCAPE: usize = 6;

/// Key, headers and value. The rest of a message is its frame, of about a hundred bytes.
const MAX_RECORD_BYTES: usize = MAX_MESSAGE_BYTES - 1024;

/// Whether it fits a message. That of nearly every event is seen without writing its record.
fn fits(event: EventRef<'_>) -> bool {
    let at_most = event.body.len() + event.message_id.len() * LONGEST_ESCAPE + OWN_HEADER_BYTES;
    at_most <= MAX_RECORD_BYTES || event.write(|record| record.size()) <= MAX_RECORD_BYTES
}

struct Person<'r> {
    user_id: Cow<'r, str>,
    anonymous_id: Cow<'r, str>,
}

/// The event with the batch's `context` and `integrations`, where it has none of its own.
fn filled_in<'b>(part: &Part<'b>, top: &Fields<'b>) -> Cow<'b, str> {
    let context = top.context.filter(|_| part.fields.context.is_none());
    let integrations = top.integrations.filter(|_| part.fields.integrations.is_none());
    let mut fields = Vec::new();
    fields.extend(context.map(|json| format!("\"context\":{json}")));
    fields.extend(integrations.map(|json| format!("\"integrations\":{json}")));
    let Some(rest) = part.json.strip_prefix('{').filter(|_| !fields.is_empty()) else {
        return Cow::Borrowed(part.json);
    };
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    Cow::Owned(format!("{{{}{comma}{rest}", fields.join(",")))
}

fn time_text(json: &str) -> Option<Cow<'_, str>> {
    identity::string(json).filter(|text| !text.is_empty() && text.len() <= MAX_SENT_AT_BYTES)
}

#[cfg(test)]
mod tests;
