//! RudderStack's `Config` as our settings.

use millrace_event_model::Reason;
use serde_json::{Map, Value};

use crate::destinations::shared::rudder::{self, Config};

/// Our settings.
pub(super) fn settings(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    if config.on("convertToAvro") {
        return Err(Reason::new("unsupported_option", "convertToAvro: records are JSON here; turn it off"));
    }
    let topics = config.on("enableMultiTopic").then(|| {
        let mut topics = config.pairs("eventTypeToTopicMap");
        topics.extend(config.pairs("eventToTopicMap"));
        Value::Object(topics)
    });
    Ok(rudder::settings([
        ("brokers", brokers(&config).map(Value::from)),
        ("topic", config.text("topic").map(Value::from)),
        ("topics", topics),
        ("properties", Some(Value::Object(security(&config)))),
    ]))
}

/// Hosts without a port have the one that stands beside them.
fn brokers(config: &Config<'_>) -> Option<String> {
    let port = config.text("port").unwrap_or("9092");
    let broker = |host: &str| if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    let hosts = config.text("hostName")?.split(',').map(str::trim).filter(|host| !host.is_empty());
    Some(hosts.map(broker).collect::<Vec<_>>().join(","))
}

/// Properties of librdkafka.
fn security(config: &Config<'_>) -> Map<String, Value> {
    let (tls, sasl) = (config.on("sslEnabled"), config.on("useSASL"));
    let protocol = match (tls, sasl) {
        (false, false) => return Map::new(),
        (true, false) => "SSL",
        (false, true) => "SASL_PLAINTEXT",
        (true, true) => "SASL_SSL",
    };
    let mut properties = Map::from_iter([("security.protocol".to_owned(), Value::from(protocol))]);
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            properties.insert(name.to_owned(), Value::from(value));
        }
    };
    if tls {
        set("ssl.ca.pem", config.text("caCertificate"));
    }
    if sasl {
        let mechanism = match config.text("saslType") {
            Some("sha256") => "SCRAM-SHA-256",
            Some("sha512") => "SCRAM-SHA-512",
            _ => "PLAIN",
        };
        set("sasl.mechanism", Some(mechanism));
        set("sasl.username", config.text("username"));
        set("sasl.password", config.text("password"));
    }
    properties
}
