//! How far a source has been read: what is stored after each barrier.

use std::collections::BTreeMap;

use millrace_event_model::{Barrier, LoadMode, StreamSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The present position of a source: one generation in state for each attempt that took it over, and for
/// each barrier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// Number of the last barrier that stands on every partition.
    pub barrier: u64,
    /// The offset after that barrier, by partition: where recovery starts to look for later ones.
    pub after: BTreeMap<i32, i64>,
    /// What is known of each stream, by [`stream_key`].
    pub streams: BTreeMap<String, StreamCursor>,
}

/// The present position of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamCursor {
    /// The source's own state, opaque.
    pub state: Option<Value>,
    /// The last full refresh that was begun.
    pub generation: u64,
}

/// The name by which a stream's position is kept.
#[must_use]
pub(crate) fn stream_key(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

impl Cursor {
    /// The stream as the coming attempt reads it: a full refresh gets a generation of its own, so that
    /// rows of one that was cut off are never mixed with it.
    #[must_use]
    pub(crate) fn next_spec(&self, stream: &StreamSpec) -> StreamSpec {
        let mut spec = stream.clone();
        if spec.mode == LoadMode::Overwrite {
            spec.generation = self.stream(stream).generation + 1;
        }
        spec
    }

    /// The state to go on from. A full refresh always starts anew: its generation would otherwise lack
    /// the rows of the attempt before.
    #[must_use]
    pub(crate) fn state_for(&self, spec: &StreamSpec) -> Option<Value> {
        match spec.mode {
            LoadMode::Overwrite => None,
            LoadMode::Append | LoadMode::Upsert => self.stream(spec).state,
        }
    }

    /// The cursor after `barrier`, which stands on every partition; `after` are the offsets behind it.
    #[must_use]
    pub(crate) fn passed(&self, barrier: &Barrier, after: &BTreeMap<i32, i64>) -> Self {
        let mut next = self.clone();
        next.barrier = barrier.number;
        next.after.extend(after);
        for spec in &barrier.streams {
            let stream = next.streams.entry(stream_key(spec.namespace.as_deref(), &spec.name)).or_default();
            stream.generation = stream.generation.max(spec.generation);
            if barrier.state.is_some() {
                stream.state.clone_from(&barrier.state);
            }
        }
        next
    }

    fn stream(&self, spec: &StreamSpec) -> StreamCursor {
        self.streams.get(&stream_key(spec.namespace.as_deref(), &spec.name)).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(name: &str, mode: LoadMode) -> StreamSpec {
        StreamSpec {
            name: name.to_owned(),
            namespace: None,
            json_schema: json!({}),
            primary_key: Vec::new(),
            mode,
            generation: 0,
        }
    }

    fn barrier(number: u64, spec: StreamSpec, state: Option<Value>) -> Barrier {
        Barrier { number, streams: vec![spec], state, complete: false }
    }

    #[test]
    fn a_barrier_moves_its_stream_and_no_other() {
        let first = Cursor::default().passed(
            &barrier(1, spec("a", LoadMode::Append), Some(json!(10))),
            &BTreeMap::from([(0, 5), (1, 7)]),
        );
        let second =
            first.passed(&barrier(2, spec("b", LoadMode::Append), Some(json!(3))), &BTreeMap::from([(0, 9)]));
        assert_eq!(second.state_for(&spec("a", LoadMode::Append)), Some(json!(10)));
        assert_eq!(second.state_for(&spec("b", LoadMode::Append)), Some(json!(3)));
        assert_eq!(second.after, BTreeMap::from([(0, 9), (1, 7)]));
        assert_eq!(second.barrier, 2);
    }

    #[test]
    fn a_barrier_without_state_keeps_the_state() {
        let first = Cursor::default()
            .passed(&barrier(1, spec("a", LoadMode::Append), Some(json!(10))), &BTreeMap::new());
        let second = first.passed(&barrier(2, spec("a", LoadMode::Append), None), &BTreeMap::new());
        assert_eq!(second.state_for(&spec("a", LoadMode::Append)), Some(json!(10)));
    }

    #[test]
    fn a_full_refresh_starts_anew_under_a_new_generation() {
        let stream = spec("a", LoadMode::Overwrite);
        let begun = Cursor::default().next_spec(&stream);
        assert_eq!(begun.generation, 1);
        let cut_off = Cursor::default().passed(&barrier(1, begun, Some(json!("half"))), &BTreeMap::new());
        assert_eq!(cut_off.next_spec(&stream).generation, 2);
        assert_eq!(cut_off.state_for(&stream), None);
    }
}
