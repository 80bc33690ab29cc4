//! What must come of any record at all: no message's decoder panics, and what one of them reads, it writes
//! so that it reads the same. The fuzz target `event_wire` drives this, and every run of the tests replays
//! its corpus (`corpus.rs`).

use std::fmt::Debug;

use bytes::Bytes;
use chrono::DateTime;
use millrace_event_model::wire::{Message, WireRecord, header_name};
use millrace_event_model::{
    AuditEntry, Change, Control, DeadLetter, Event, MessageId, Outcome, PartitionKey, Progress, Record,
};
use uuid::Uuid;

/// Reads the input as a record and puts it to every message.
pub(crate) fn check(input: &[u8]) {
    let record = record(input);
    check_event(&record);
    check_event_of(&record);
    check_message::<Record>(&record);
    check_message::<Change>(&record);
    check_message::<Outcome>(&record);
    check_message::<Progress>(&record);
    check_message::<DeadLetter>(&record);
    check_message::<AuditEntry>(&record);
    check_message::<Control>(&record);
}

/// A record written down: a line with its key (`-`: none), a line `name: value` for each header, an empty
/// line, the value. Without the empty line it is a tombstone.
fn record(input: &[u8]) -> WireRecord {
    let (key, mut rest) = line(input);
    let mut record = WireRecord::new((key != b"-").then(|| Bytes::copy_from_slice(key)), None);
    while let Some(more) = rest {
        let (header, next) = line(more);
        if header.is_empty() {
            record.value = next.map(Bytes::copy_from_slice);
            break;
        }
        let colon = header.iter().position(|byte| *byte == b':').unwrap_or(header.len());
        let (name, value) = header.split_at(colon);
        let value = value.strip_prefix(b": ").unwrap_or(value);
        record.headers.push((header_name(&String::from_utf8_lossy(name)), Bytes::copy_from_slice(value)));
        rest = next;
    }
    record
}

/// Up to the next line feed, and what comes after it.
fn line(input: &[u8]) -> (&[u8], Option<&[u8]>) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], Some(&input[end + 1..])),
        None => (input, None),
    }
}

/// Whatever a message says after it was read and written once, it says for ever. (The first reading may say
/// more: of times, nothing below a millisecond is written.)
fn check_message<M: Message + PartialEq + Debug>(record: &WireRecord) {
    let Ok(first) = M::decode(record) else { return };
    let written = first.encode();
    let again = M::decode(&written).expect("what was written can be read");
    assert_eq!(again.encode(), written);
}

/// Of an event, everything but what lies below a millisecond comes back.
fn check_event(record: &WireRecord) {
    check_message::<Event>(record);
    let Ok(event) = Event::decode(record) else { return };
    let mut again = Event::decode(&event.encode()).expect("what was written can be read");
    let lost = event.received_at - again.received_at;
    assert!(
        (0..1_000_000).contains(&lost.num_nanoseconds().unwrap_or(-1)),
        "{lost} of {}",
        event.received_at
    );
    again.received_at = event.received_at;
    assert_eq!(again, event);
    assert_eq!(Some(&event.body), record.value.as_ref());
}

/// An event that says what the record's headers say, whatever that is, comes back as it was.
fn check_event_of(record: &WireRecord) {
    let text =
        |at: usize| record.headers.get(at).map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let number = record.headers.len() as u64;
    let event = Event {
        event_type: text(0).unwrap_or_default().into(),
        message_id: MessageId(text(1).unwrap_or_default()),
        rudder_id: Uuid::from_u64_pair(number, number),
        received_at: DateTime::UNIX_EPOCH,
        sent_at: text(2).map(Into::into),
        request_ip: text(3).map(Into::into),
        geo: text(4).map(Into::into),
        source: "web".parse().expect("a name of a source"),
        policy: text(5).map(Into::into),
        traceparent: text(6).map(Into::into),
        key: PartitionKey([7; 16]),
        body: record.value.clone().unwrap_or_default(),
    };
    assert_eq!(Event::decode(&event.encode()), Ok(event));
}
