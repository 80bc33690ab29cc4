//! Contacts of NAME. A folder `crates/connectors/src/destinations/NAME/`, one line `destinations::NAME::entry()`
//! in `registry.rs`, and `pub mod NAME;` in `destinations/mod.rs`.

use millrace_connector::{DestinationEntry, Document, HttpRequest};
use millrace_event_model::Reason;
use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::http::{Check, HttpEntry, Join, JoinRule, Mapper, Profile};

/// Contacts of NAME.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The API key, from the vendor's settings.
    pub api_key: Secret,
}

struct Contacts(Settings);

impl Mapper for Contacts {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        if document.event_type() != "identify" {
            return Ok(Vec::new());
        }
        let Some(id) = document.text("userId") else {
            return Err(Reason::new("missing_field", "userId is missing"));
        };
        let request = HttpRequest::post("https://api.example.com/v2/contacts/batch")
            .header("authorization", format!("Bearer {}", self.0.api_key.expose()));
        Ok(vec![request.json(&json!({ "contacts": [{ "external_id": id }] }))])
    }
}

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry {
        kind: "NAME",
        summary: "Contacts of NAME",
        mapper: |settings: &Settings| Ok(Box::new(Contacts(settings.clone()))),
        profile: |_| Profile {
            max_items: 100,
            // With several endpoints a rule for each: `JoinRule::path`.
            joins: JoinRule::all(Join::arrays(&["contacts"], 100)),
            hosts: vec!["api.example.com".to_owned()],
            ..Profile::new(Check::Reach("https://api.example.com/".to_owned()))
        },
        // Its name and settings in RudderStack, if it is there; if not, name it in the test of `registry.rs`.
        rudder: None,
    }
    .entry()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::destinations::trial::{conforms, event, requests, shown};

    fn settings() -> Value {
        json!({ "api_key": "key-of-a-test" })
    }

    #[test]
    fn an_identify_is_a_contact() {
        let item = event(json!({ "type": "identify", "userId": "u1" }));
        let made = requests(&entry(), &settings(), &item).unwrap();
        let bodies: Vec<Value> = made.iter().map(|request| shown(request)["body"].clone()).collect();
        assert_eq!(bodies, [json!({ "contacts": [{ "external_id": "u1" }] })]);
    }

    #[tokio::test]
    async fn deliver_gets_what_every_destination_owes_it() {
        conforms(&entry(), settings()).await;
    }
}
