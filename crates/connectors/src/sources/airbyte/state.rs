//! States of streams, put together into the one that is handed back as `--state`: an array of state
//! messages, or the whole as the source wrote it where it is of the legacy kind.
//!
//! A stream that is read in full each time has no state here. Such sources hand one out all the same, and
//! given it back they would read nothing: an empty generation would then replace a full table.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalog::StreamKey;

/// What is known of the source's state.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct States {
    /// One blob for all, from sources of an older protocol.
    legacy: Option<Value>,
    /// One message for all, with a part that streams share.
    global: Option<Value>,
    streams: BTreeMap<StreamKey, Value>,
}

/// Whose rows, of those that came before, a state message covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Covers {
    /// Of one stream.
    Stream(StreamKey),
    /// All.
    Everything,
    /// A message that names no stream.
    Nothing,
}

impl States {
    /// From what [`Self::to_value`] made. `is_full` says which streams are read in full each time.
    pub(super) fn from_value(state: Option<Value>, is_full: impl Fn(&StreamKey) -> bool) -> Self {
        let mut states = Self::default();
        match state {
            None | Some(Value::Null) => {}
            Some(Value::Array(messages)) => {
                for message in messages {
                    states.apply(message, &is_full);
                }
            }
            Some(blob) => states.legacy = Some(blob),
        }
        states
    }

    /// Takes in one state message and says whose rows it covers.
    pub(super) fn apply(&mut self, message: Value, is_full: impl Fn(&StreamKey) -> bool) -> Covers {
        match message.get("type").and_then(Value::as_str) {
            Some("STREAM") => {
                let stream = message.get("stream").cloned().unwrap_or_default();
                let key = stream.get("stream_descriptor").and_then(StreamKey::of_descriptor);
                let Some(key) = key else { return Covers::Nothing };
                if !is_full(&key) {
                    self.streams.insert(key.clone(), json!({"type": "STREAM", "stream": stream}));
                }
                Covers::Stream(key)
            }
            Some("GLOBAL") => {
                let global = message.get("global").cloned().unwrap_or_default();
                self.global = Some(json!({"type": "GLOBAL", "global": global}));
                Covers::Everything
            }
            _ => {
                self.legacy = message.get("data").cloned();
                Covers::Everything
            }
        }
    }

    /// The whole; `None` before there is any.
    pub(super) fn to_value(&self) -> Option<Value> {
        let messages: Vec<&Value> = self.global.iter().chain(self.streams.values()).collect();
        if messages.is_empty() { self.legacy.clone() } else { Some(json!(messages)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn stream(name: &str, state: i64) -> Value {
        json!({
            "type": "STREAM",
            "stream": {"stream_descriptor": {"name": name}, "stream_state": {"at": state}},
            "sourceStats": {"recordCount": 3.0},
        })
    }

    #[test]
    fn each_stream_keeps_its_newest_state() {
        let never = |_: &StreamKey| false;
        let mut states = States::from_value(Some(json!([stream("a", 1), stream("b", 1)])), never);
        states.apply(stream("b", 2), never);
        states.apply(stream("c", 1), never);
        let value = states.to_value().unwrap();
        let kept: Vec<(&str, i64)> = value
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                let stream = &message["stream"];
                let name = stream["stream_descriptor"]["name"].as_str().unwrap();
                (name, stream["stream_state"]["at"].as_i64().unwrap())
            })
            .collect();
        assert_eq!(kept, [("a", 1), ("b", 2), ("c", 1)]);
        assert_eq!(States::from_value(Some(value), never), states);
    }

    #[test]
    fn a_stream_that_is_read_in_full_has_no_state() {
        let is_full = |key: &StreamKey| key.name == "full";
        let mut states = States::default();
        states.apply(stream("full", 1), is_full);
        assert_eq!(states.to_value(), None);
    }

    #[test]
    fn older_kinds_of_state_are_handed_back_whole() {
        let never = |_: &StreamKey| false;
        let mut states = States::default();
        states.apply(json!({"type": "LEGACY", "data": {"users": 5}}), never);
        assert_eq!(states.to_value(), Some(json!({"users": 5})));
        assert_eq!(States::from_value(states.to_value(), never), states);
        let mut states = States::default();
        states.apply(json!({"type": "GLOBAL", "global": {"shared_state": 1}}), never);
        assert_eq!(states.to_value(), Some(json!([{"type": "GLOBAL", "global": {"shared_state": 1}}])));
    }
}
