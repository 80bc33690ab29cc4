//! What ingest must make of any bytes whatsoever, as another reader of JSON sees it: serde_json. The fuzz
//! target `ingest_body` drives this; so do the tests in `any_body.rs`.
//!
//! Which of several faults a body is refused for is left open, for they are found in the order of reading.

use std::fmt;

use chrono::{DateTime, Utc};
use millrace_event_model::wire::{Message as _, WriteRecord as _};
use millrace_event_model::{Event, EventType, KeyHasher};
use millrace_ingest::{BlockedEvents, Envelope, Limits, Refusal, Rules, Shape};
use millrace_privacy::{HashKey, MAX_DEPTH, Policy, Scanner, Suppressions};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

const SHAPES: [Shape; 6] = [
    Shape::Single(EventType::Track),
    Shape::Other("extract"),
    Shape::Other("audiencelist"),
    Shape::Batch,
    Shape::Replay,
    Shape::SegmentBatch,
];

/// Small enough that a short body can go beyond each of them.
const EVENTS: usize = 6;
const FIELDS: usize = 30;
const EVENT_BYTES: usize = 900;
const BODY_BYTES: usize = 3000;

const GENERATED_ID: Uuid = Uuid::from_u128(7);
const ADDRESS: &str = "203.0.113.7";

/// Types whose events need no id.
const WITHOUT_IDENTITY: [&str; 2] = ["extract", "record"];

/// What a policy leaves as it is: masking would make all people one, or all events.
const IDENTITY: [&str; 5] = ["userId", "anonymousId", "groupId", "previousId", "messageId"];

/// Puts the body to every path, with and without a policy, and panics unless each answer is right. Returns how
/// many events were accepted.
pub(crate) fn check(body: &[u8]) -> usize {
    let mut accepted = 0;
    for shape in SHAPES {
        let expected = Expected::of(shape, body);
        let plain = open(shape, None, body);
        let strict = Scanner::new(Policy::mask_all(), HashKey::derive(&[1; 32]));
        let masked = open(shape, Some(strict.clone()), body);
        match (&plain, &masked) {
            (Ok(plain), Ok(masked)) => {
                expected.check(plain);
                assert_eq!(plain.len(), masked.len(), "{shape:?}");
                for (plain, masked) in plain.iter().zip(masked) {
                    check_masked(&strict, &plain.body, &masked.body);
                }
                accepted += plain.len();
            }
            (Err(refusal), Err(other)) => {
                assert_eq!(refusal, other, "{shape:?}: a policy refuses nothing");
                assert!(expected.allows(*refusal), "{shape:?}: {refusal:?}, not {:?}", expected.faults);
            }
            (Ok(_), Err(refusal)) => panic!("{shape:?}: {refusal:?}, because of the policy alone"),
            (Err(refusal), Ok(_)) => panic!("{shape:?}: {refusal:?}, but not with a policy"),
        }
    }
    accepted
}

/// The events as they come out of Kafka.
fn open(shape: Shape, scanner: Option<Scanner>, body: &[u8]) -> Result<Vec<Event>, Refusal> {
    let limits = Limits {
        events_per_request: EVENTS,
        fields_per_event: FIELDS,
        event_bytes: EVENT_BYTES,
        body_bytes: BODY_BYTES,
        ..Limits::default()
    };
    let blocked = BlockedEvents::default();
    let rules = Rules { id: "web".parse().unwrap(), scanner, policy_version: None, blocked };
    let envelope = Envelope {
        shape,
        rules: &rules,
        limits: &limits,
        keys: &KeyHasher::new(&[1; 32]),
        suppressions: &Suppressions::default(),
        locator: None,
        received_at: now(),
        address: ADDRESS,
        traceparent: None,
    };
    let opened = envelope.open(body, || GENERATED_ID)?;
    let events =
        opened.events().map(|event| event.write(|record| Event::decode(&record.to_owned()).unwrap()));
    let events: Vec<_> = events.collect();
    assert_eq!(events.len(), opened.count());
    Ok(events)
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_764_000_000_123).unwrap()
}

/// An object's fields in their order, each as it stands in the input.
struct Object<'b>(Vec<(Vec<u8>, &'b str)>);

impl<'b> Object<'b> {
    fn read(json: &'b str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Where a field stands twice, the last one counts.
    fn field(&self, name: &str) -> Option<&'b str> {
        let last = self.0.iter().rev().find(|(key, _)| key == name.as_bytes());
        last.map(|(_, json)| *json)
    }
}

/// A key, as bytes: half of a surrogate pair is no text, but JSON.
struct Key(Vec<u8>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key(bytes.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Key(key), json)) = map.next_entry::<Key, &RawValue>()? {
                    fields.push((key, json.get()));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// What must come of a body.
struct Expected<'b> {
    shape: Shape,
    /// Why it must be refused.
    faults: Vec<Refusal>,
    /// Why it may be refused: this reader cannot tell.
    doubts: Vec<Refusal>,
    /// What it holds otherwise.
    events: Vec<&'b str>,
    /// What stands beside the events of a batch.
    top: Object<'b>,
}

impl<'b> Expected<'b> {
    fn of(shape: Shape, body: &'b [u8]) -> Self {
        let mut expected = Self {
            shape,
            faults: Vec::new(),
            doubts: Vec::new(),
            events: Vec::new(),
            top: Object(Vec::new()),
        };
        let text =
            std::str::from_utf8(body).ok().filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let Some(text) = text else {
            expected.faults.push(Refusal::InvalidJson);
            // Seen before the place where it ceases to be JSON.
            expected.doubts.extend([Refusal::TooDeep, Refusal::TooLarge, Refusal::TooManyFields]);
            return expected;
        };
        if Measure::of(text).depth >= MAX_DEPTH {
            // A batch adds to the depth of its events, and what stands beside them has one of its own.
            expected.doubts.push(Refusal::TooDeep);
        }
        match shape {
            Shape::Single(_) | Shape::Other(_) => expected.events.push(text.trim_matches(is_space)),
            Shape::Batch | Shape::Replay | Shape::SegmentBatch => expected.read_batch(text),
        }
        for event in expected.events.clone() {
            expected.judge(event);
        }
        if shape == Shape::SegmentBatch {
            let filled: usize = expected.events.iter().map(|event| expected.filled(event).len()).sum();
            expected.fault_if(filled > BODY_BYTES, Refusal::TooLarge);
        }
        expected
    }

    fn read_batch(&mut self, text: &'b str) {
        let Some(top) = Object::read(text) else { return self.faults.push(Refusal::EmptyBatch) };
        let batches = top.0.iter().filter(|(key, _)| key == b"batch").count();
        if batches > 1 {
            // Those before the last are read, and then nothing.
            self.doubts.extend([Refusal::TooDeep, Refusal::TooLarge, Refusal::TooManyFields]);
        }
        let batch = top.field("batch").unwrap_or("null");
        self.top = top;
        match batch.as_bytes() {
            b"null" => {}
            [b'{', ..] => self.events.push(batch),
            [b'[', ..] => {
                let elements: Vec<&RawValue> = serde_json::from_str(batch).expect("an array");
                self.events.extend(elements.into_iter().map(RawValue::get));
            }
            _ => return self.faults.push(Refusal::NotAnEvent),
        }
        self.fault_if(self.events.is_empty(), Refusal::EmptyBatch);
        self.fault_if(
            self.events.iter().filter(|event| event.starts_with('{')).count() > EVENTS,
            Refusal::TooLarge,
        );
    }

    fn judge(&mut self, json: &str) {
        let Some(event) = Object::read(json) else { return self.faults.push(Refusal::NotAnEvent) };
        let measure = Measure::of(json);
        self.fault_if(measure.depth > MAX_DEPTH, Refusal::TooDeep);
        self.fault_if(measure.fields > FIELDS, Refusal::TooManyFields);
        self.fault_if(self.filled(json).len() > EVENT_BYTES, Refusal::TooLarge);
        let ids = [event.field("userId"), event.field("anonymousId")].map(Text::of);
        if ids.contains(&Text::Marks) || self.needs_no_identity(&event) {
            return;
        }
        if ids.contains(&Text::Unclear) || self.may_need_no_identity(&event) {
            return self.doubts.push(Refusal::NoIdentity);
        }
        self.faults.push(Refusal::NoIdentity);
    }

    fn needs_no_identity(&self, event: &Object<'_>) -> bool {
        match self.shape {
            Shape::Single(_) => false,
            Shape::Other(event_type) => WITHOUT_IDENTITY.contains(&event_type),
            _ => event
                .field("type")
                .is_some_and(|json| WITHOUT_IDENTITY.iter().any(|name| json == format!("\"{name}\""))),
        }
    }

    /// Types are read in any case and with space around them.
    fn may_need_no_identity(&self, event: &Object<'_>) -> bool {
        let of_its_own = !matches!(self.shape, Shape::Single(_) | Shape::Other(_));
        let text = event.field("type").and_then(|json| serde_json::from_str::<String>(json).ok());
        let text = text.unwrap_or_default().to_lowercase();
        of_its_own && WITHOUT_IDENTITY.iter().any(|name| text.contains(name))
    }

    fn fault_if(&mut self, wrong: bool, refusal: Refusal) {
        if wrong {
            self.faults.push(refusal);
        }
    }

    fn allows(&self, refusal: Refusal) -> bool {
        self.faults.contains(&refusal) || self.doubts.contains(&refusal)
    }

    fn check(&self, events: &[Event]) {
        assert!(self.faults.is_empty(), "{:?}: accepted in spite of {:?}", self.shape, self.faults);
        assert_eq!(events.len(), self.events.len(), "{:?}", self.shape);
        for (event, sent) in events.iter().zip(&self.events) {
            assert_eq!(event.body, self.filled(sent), "{:?}", self.shape);
            self.check_headers(event, &Object::read(sent).expect("an event is an object"));
        }
    }

    fn check_headers(&self, event: &Event, sent: &Object<'_>) {
        match self.shape {
            Shape::Single(event_type) => assert_eq!(event.event_type, event_type.as_str()),
            Shape::Other(event_type) => assert_eq!(event.event_type, event_type),
            _ => {}
        }
        match sent.field("messageId") {
            Some(json) if json.starts_with('"') => {
                let plain: Option<String> = serde_json::from_str(json).ok();
                if let Some(id) =
                    plain.filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic()))
                {
                    assert_eq!(event.message_id.as_str(), id);
                }
            }
            _ => assert_eq!(event.message_id.as_str(), GENERATED_ID.to_string()),
        }
        let own_address = sent.field("request_ip").is_some();
        assert_eq!(event.request_ip.as_deref(), Some(ADDRESS).filter(|_| !own_address));
        let own_sent_at = sent.field("sentAt").is_some_and(|json| !matches!(json, "null" | "\"\""));
        assert!(!own_sent_at || event.sent_at.is_none());
        if self.shape != Shape::Replay {
            assert_eq!(event.received_at, now());
        }
        assert_eq!(event.source.as_str(), "web");
    }

    /// An event with what a batch of Segment's lends it.
    fn filled(&self, event: &str) -> String {
        let mut filled = event.to_owned();
        if let (Shape::SegmentBatch, Some(own)) = (self.shape, Object::read(event)) {
            let lent = ["context", "integrations"].into_iter().filter(|name| own.field(name).is_none());
            let lent = lent.filter_map(|name| Some(format!("\"{name}\":{}", self.top.field(name)?)));
            let lent = lent.collect::<Vec<_>>().join(",");
            let comma = if own.0.is_empty() || lent.is_empty() { "" } else { "," };
            filled = format!("{{{lent}{comma}{}", &event[1..]);
        }
        filled
    }
}

/// What a value says as an id.
#[derive(Debug, PartialEq, Eq)]
enum Text {
    Nothing,
    /// Something that can be seen.
    Marks,
    /// Only characters of which this reader does not know whether they can be seen.
    Unclear,
}

impl Text {
    fn of(json: Option<&str>) -> Self {
        let json = json.unwrap_or("null");
        if json == "null" || json == "\"\"" {
            return Self::Nothing;
        }
        match serde_json::from_str::<String>(json) {
            Ok(text) if text.contains(|ch: char| ch.is_ascii_graphic()) => Self::Marks,
            Ok(_) => Self::Unclear,
            // No string, or one with half a surrogate pair.
            Err(_) => Self::Marks,
        }
    }
}

fn is_space(ch: char) -> bool {
    matches!(ch, ' ' | '\t' | '\n' | '\r')
}

/// Of a text that is JSON: how deep it is, and how many fields its objects have.
#[derive(Default)]
struct Measure {
    depth: usize,
    fields: usize,
}

impl Measure {
    fn of(json: &str) -> Self {
        let (mut measure, mut open) = (Self::default(), 0);
        for byte in outline(json) {
            match byte {
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                b':' => measure.fields += 1,
                _ => {}
            }
            measure.depth = measure.depth.max(open);
        }
        measure
    }
}

/// JSON without its content: brackets, commas, colons, and one `v` for each string, number or word.
fn outline(json: &str) -> Vec<u8> {
    let mut outline = Vec::new();
    let mut bytes = json.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(inside) = bytes.next().filter(|inside| *inside != b'"') {
                    if inside == b'\\' {
                        bytes.next();
                    }
                }
                outline.push(b'v');
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => outline.push(byte),
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                while bytes.next_if(|next| !b"{}[],:\" \t\n\r".contains(next)).is_some() {}
                outline.push(b'v');
            }
        }
    }
    outline
}

/// A policy replaces all that a look at everything finds. It leaves the form of an event as it is, and what says
/// who it is about.
fn check_masked(strict: &Scanner, plain: &[u8], masked: &[u8]) {
    let (plain, masked) = (std::str::from_utf8(plain).unwrap(), std::str::from_utf8(masked).unwrap());
    assert_eq!(strict.scan_everything(plain).unwrap().body, masked.as_bytes());
    assert!(serde_json::from_str::<IgnoredAny>(masked).is_ok(), "a masked event is no JSON");
    assert_eq!(outline(plain), outline(masked));
    let (plain, masked) = (Object::read(plain).unwrap(), Object::read(masked).unwrap());
    for ((key, plain), (_, masked)) in plain.0.iter().zip(&masked.0) {
        if IDENTITY.iter().any(|name| key == name.as_bytes()) && !plain.starts_with(['{', '[']) {
            assert_eq!(plain, masked);
        }
    }
}
