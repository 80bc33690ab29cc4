//! From the streams a source offers to the streams we read, and back to the catalog it is given.

use millrace_event_model::{LoadMode, StreamSpec};
use serde::Deserialize;
use serde_json::{Value, json};

/// A stream's name with its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StreamKey {
    /// The namespace, where there is one.
    pub(super) namespace: Option<String>,
    /// The name.
    pub(super) name: String,
}

impl StreamKey {
    /// Of a spec.
    pub(super) fn of(spec: &StreamSpec) -> Self {
        Self { namespace: spec.namespace.clone(), name: spec.name.clone() }
    }

    /// Of a `stream_descriptor` or a stream of a catalog.
    pub(super) fn of_descriptor(descriptor: &Value) -> Option<Self> {
        let text = |name: &str| descriptor.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { namespace: text("namespace"), name: text("name")? })
    }
}

/// What a stream offers.
#[derive(Deserialize)]
struct Offer {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    json_schema: Value,
    #[serde(default)]
    supported_sync_modes: Vec<String>,
    source_defined_cursor: Option<bool>,
    default_cursor_field: Option<Vec<String>>,
    source_defined_primary_key: Option<Vec<Vec<String>>>,
}

impl Offer {
    /// The best way of loading that the stream allows. A cursor that a person would have to choose is
    /// none: then the stream is read in full each time.
    fn mode(&self) -> LoadMode {
        let incremental = self.supported_sync_modes.iter().any(|mode| mode == "incremental");
        let has_default = self.default_cursor_field.as_ref().is_some_and(|field| !field.is_empty());
        let has_cursor = self.source_defined_cursor == Some(true) || has_default;
        let has_key = self.source_defined_primary_key.as_ref().is_some_and(|key| !key.is_empty());
        match (incremental && has_cursor, has_key) {
            (false, _) => LoadMode::Overwrite,
            (true, true) => LoadMode::Upsert,
            (true, false) => LoadMode::Append,
        }
    }
}

/// The specs of the streams of a catalog.
///
/// # Errors
/// A stream without a name, or one whose fields are of the wrong type.
pub(super) fn specs(streams: &[Value]) -> Result<Vec<StreamSpec>, serde_json::Error> {
    streams
        .iter()
        .map(|stream| {
            let offer = Offer::deserialize(stream)?;
            Ok(StreamSpec {
                mode: offer.mode(),
                name: offer.name,
                namespace: offer.namespace,
                json_schema: offer.json_schema,
                primary_key: offer.source_defined_primary_key.unwrap_or_default(),
                generation: 0,
            })
        })
        .collect()
}

/// The catalog that the source is given, with the streams as it wrote them itself; or the name of one that
/// it does not offer any more.
pub(super) fn configured(offered: &[Value], wanted: &[StreamSpec]) -> Result<Value, String> {
    let mut streams = Vec::with_capacity(wanted.len());
    for spec in wanted {
        let key = StreamKey::of(spec);
        let offer = offered.iter().find(|stream| StreamKey::of_descriptor(stream).as_ref() == Some(&key));
        streams.push(configured_stream(offer.ok_or_else(|| spec.name.clone())?, spec));
    }
    Ok(json!({ "streams": streams }))
}

fn configured_stream(offer: &Value, spec: &StreamSpec) -> Value {
    let (sync_mode, destination_sync_mode) = match spec.mode {
        LoadMode::Overwrite => ("full_refresh", "overwrite"),
        LoadMode::Append => ("incremental", "append"),
        LoadMode::Upsert => ("incremental", "append_dedup"),
    };
    let cursor_field = offer.get("default_cursor_field").cloned().unwrap_or_else(|| json!([]));
    json!({
        "stream": offer,
        "sync_mode": sync_mode,
        "destination_sync_mode": destination_sync_mode,
        "cursor_field": cursor_field,
        "primary_key": spec.primary_key,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_loaded_the_best_way_it_allows() {
        let both = json!(["full_refresh", "incremental"]);
        let table = [
            (json!({"name": "a"}), LoadMode::Overwrite),
            (json!({"name": "a", "supported_sync_modes": both}), LoadMode::Overwrite),
            (
                json!({"name": "a", "supported_sync_modes": both, "source_defined_cursor": true}),
                LoadMode::Append,
            ),
            (
                json!({"name": "a", "supported_sync_modes": both, "default_cursor_field": ["at"],
                       "source_defined_primary_key": [["id"]]}),
                LoadMode::Upsert,
            ),
            (
                json!({"name": "a", "supported_sync_modes": ["full_refresh"],
                       "source_defined_primary_key": [["id"]]}),
                LoadMode::Overwrite,
            ),
        ];
        for (stream, mode) in table {
            assert_eq!(specs(std::slice::from_ref(&stream)).unwrap()[0].mode, mode, "{stream}");
        }
    }

    #[test]
    fn the_source_gets_its_own_stream_back() {
        let offered = [json!({"name": "a", "namespace": "n", "extra": [1], "default_cursor_field": ["at"]})];
        let wanted = specs(&offered).unwrap();
        let catalog = configured(&offered, &wanted).unwrap();
        assert_eq!(catalog["streams"][0]["stream"], offered[0]);
        assert_eq!(catalog["streams"][0]["cursor_field"], json!(["at"]));
        assert_eq!(configured(&[], &wanted), Err("a".to_owned()));
    }
}
