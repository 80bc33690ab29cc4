//! The compatibility promise: whatever was ever written is read for ever.
//!
//! `tests/wire/v1` holds a record of every shape. A file there is never changed and never removed: a new
//! shape is a new file. `UPDATE_GOLDEN=1` writes the files that are missing, and only those.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_event_model::wire::{DecodeError, Message, WireRecord};
use millrace_event_model::{AuditEntry, Change, Control, DeadLetter, Event, Outcome, Progress, Record};
use serde::{Deserialize, Serialize};

use crate::golden::{repository, updating};
use crate::samples;

const FOLDER: &str = "crates/event-model/tests/wire/v1";

/// A record as a person can read it: our keys are bytes, all the rest is text.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sample {
    key: Option<String>,
    headers: Vec<(String, String)>,
    value: Option<String>,
}

impl Sample {
    fn of(record: &WireRecord) -> Self {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            key: record.key.as_ref().map(hex::encode),
            headers: record.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            value: record.value.as_ref().map(text),
        }
    }

    fn record(&self) -> WireRecord {
        let headers =
            self.headers.iter().map(|(name, value)| (name.clone().into(), Bytes::from(value.clone())));
        WireRecord {
            key: self.key.as_ref().map(|key| Bytes::from(hex::decode(key).unwrap())),
            headers: headers.collect(),
            value: self.value.clone().map(Bytes::from),
        }
    }
}

fn on_file() -> BTreeMap<String, Sample> {
    let mut samples = BTreeMap::new();
    for entry in std::fs::read_dir(repository(FOLDER)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        samples.insert(name, serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap());
    }
    samples
}

fn again<M: Message>(record: &WireRecord) -> Result<WireRecord, DecodeError> {
    M::decode(record).map(|message| message.encode())
}

/// Decodes and encodes as the message that the name begins with.
fn decode_and_encode(name: &str, record: &WireRecord) -> Result<WireRecord, DecodeError> {
    match name.split('-').next().unwrap() {
        "event" => again::<Event>(record),
        "record" => again::<Record>(record),
        "change" => again::<Change>(record),
        "outcome" => again::<Outcome>(record),
        "progress" => again::<Progress>(record),
        "dead" => again::<DeadLetter>(record),
        "audit" => again::<AuditEntry>(record),
        "control" => again::<Control>(record),
        other => panic!("{name}: no message is called {other}"),
    }
}

/// Shapes that are read but no longer written, each with the sample of what is written instead.
const FORMER: [(&str, &str); 3] = [
    ("event", "event-in-one-header"),
    ("event-bare", "event-in-one-header-bare"),
    ("event-located", "event-in-one-header-located"),
];

#[test]
fn every_shape_that_was_ever_written_is_read_and_written_the_same() {
    let samples = on_file();
    assert!(!samples.is_empty());
    for (name, sample) in &samples {
        let former = FORMER.iter().find(|(former, _)| former == name);
        let expected = former.map_or(sample, |(_, now)| &samples[*now]);
        let written = decode_and_encode(name, &sample.record());
        assert_eq!(written.as_ref().map(Sample::of).as_ref(), Ok(expected), "{name}");
    }
}

#[test]
fn every_shape_that_is_written_has_its_sample() {
    let mut kept = on_file();
    for (name, record) in samples::all() {
        let sample = Sample::of(&record);
        if updating() && !kept.contains_key(name) {
            let file = repository(FOLDER).join(name).with_extension("json");
            let text = serde_json::to_string_pretty(&sample).unwrap() + "\n";
            std::fs::write(file, text).unwrap();
        } else {
            assert_eq!(
                kept.remove(name),
                Some(sample),
                "{name}: a new shape is a new file (UPDATE_GOLDEN=1)"
            );
        }
    }
}

#[test]
fn a_header_that_is_not_known_is_passed_over() {
    for (name, sample) in on_file() {
        let newer = sample.record().with("from-the-future", "1");
        assert!(decode_and_encode(&name, &newer).is_ok(), "{name}");
    }
}
