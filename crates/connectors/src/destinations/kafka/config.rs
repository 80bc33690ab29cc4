//! The settings of a Kafka cluster.

use std::collections::{BTreeMap, BTreeSet};

use millrace_bus::KafkaSettings;
use millrace_connector::ConnectorError;
use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::http::settings::{invalid, validate};

/// Records in topics of a Kafka cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `host:port`, separated by commas; some of the brokers suffice.
    pub brokers: String,
    /// The topic that gets what no other does. Topics exist: none is made here.
    #[schemars(regex(pattern = "^[a-zA-Z0-9._-]{1,249}$"))]
    pub topic: String,
    /// Other topics, by an event's name or else its type: `{"Order Completed": "orders", "identify":
    /// "people"}`.
    #[serde(default)]
    pub topics: BTreeMap<String, String>,
    /// Lets an event choose its topic in `integrations.Kafka.topic`. Whoever can send events can then
    /// write to each topic that these credentials can write to. An event whose own topic is not there, or may
    /// not be written, is rejected by itself.
    #[serde(default)]
    pub event_topics: bool,
    /// Writes a row of reverse ETL that is gone as a record without a value, which takes it out of a
    /// compacted topic. Else it is a record with `"op": "delete"`.
    #[serde(default)]
    pub tombstones: bool,
    /// Any property of librdkafka, such as `security.protocol`, `sasl.mechanism`, `sasl.username`,
    /// `sasl.password` and `ssl.ca.pem`. `acks` is `all` and cannot be set.
    #[serde(default)]
    pub properties: BTreeMap<String, Secret>,
}

pub(super) fn schema() -> Value {
    schemars::schema_for!(Settings).to_value()
}

/// Reads the settings of the destination `id`.
pub(super) fn parse(settings: &Value, id: &str) -> Result<Settings, ConnectorError> {
    validate(settings, &schema(), id)?;
    let settings = Settings::deserialize(settings).map_err(|error| invalid(id, &error.to_string()))?;
    match settings.topics.values().find(|topic| !is_topic(topic)) {
        Some(topic) => Err(invalid(id, &format!("topics: {topic:?} is not the name of a topic"))),
        None => Ok(settings),
    }
}

impl Settings {
    /// The topics that the settings name, each once, in the order of their names.
    pub(super) fn named_topics(&self) -> BTreeSet<&str> {
        self.topics.values().chain([&self.topic]).map(String::as_str).collect()
    }

    pub(super) fn cluster(&self) -> KafkaSettings {
        let properties =
            self.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        KafkaSettings { brokers: self.brokers.clone(), properties }
    }
}

/// Kafka's own rule of names.
pub(super) fn is_topic(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(allowed)
}
