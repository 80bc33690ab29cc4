//! Which cluster, and how to talk to it.

use std::collections::BTreeMap;
use std::fmt;

/// The `kafka:` block of the config file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, comma-separated; some of the brokers suffice.
    pub brokers: String,
    /// Any property of librdkafka, for security and tuning, except those the promises depend on.
    pub properties: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// A cluster without further properties.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), properties: BTreeMap::new() }
    }
}

/// Properties may hold passwords: names only.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("KafkaSettings").field("brokers", &self.brokers).field("properties", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let mut settings = KafkaSettings::new("kafka:9092");
        settings.properties.insert("sasl.password".to_owned(), "hunter2".to_owned());
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
