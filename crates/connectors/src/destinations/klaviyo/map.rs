//! One event to Klaviyo's requests.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::{Revision, Settings};
use super::{legacy, person, subscription};
use crate::destinations::shared::fields::{missing, object, pick, pick_text, set, unsupported};
use crate::destinations::shared::flatten::flatten;
use crate::destinations::shared::times;
use crate::http::Mapper;

/// Where the API is.
pub(super) const HOST: &str = "a.klaviyo.com";

/// Where an event's worth may stand: the first counts, and leaves the properties.
const WORTH: &[&str] = &["revenue", "total", "value"];

/// Makes Klaviyo's requests.
pub(super) struct Klaviyo {
    pub(super) settings: Settings,
}

impl Mapper for Klaviyo {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        match document.event_type().as_str() {
            "identify" => self.identify(document),
            "track" | "screen" if self.settings.revision == Revision::V2023 => {
                Ok(vec![legacy::event(self, document)?])
            }
            "track" | "screen" => Ok(vec![self.event(document)?]),
            "group" => Ok(vec![subscription::of_group(self, document)?]),
            // Klaviyo's own script sees pages; a merge of profiles is not for it to ask.
            "page" | "alias" => Ok(Vec::new()),
            other => Err(unsupported(other)),
        }
    }
}

impl Klaviyo {
    fn identify(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let person = person::profile(&self.settings, document)?;
        let body = json!({"data": {
            "type": "profile",
            "attributes": person.attributes,
            "meta": {"patch_properties": person.patch},
        }});
        // Older ones cannot write a profile in one request.
        let revision = self.settings.revision.max(Revision::V2024);
        let mut requests = vec![self.post("/api/profile-import", revision, &body)];
        requests.extend(subscription::of_identify(self, document)?);
        Ok(requests)
    }

    fn event(&self, document: &Document) -> Result<HttpRequest, Reason> {
        let mut person = person::profile(&self.settings, document)?;
        person.attributes.insert("meta".to_owned(), json!({"patch_properties": person.patch}));
        let mut properties = object(document, "properties");
        let mut attributes = Map::new();
        if let Some(worth) = worth(&mut properties) {
            attributes.insert("value".to_owned(), worth);
            set(&mut attributes, "value_currency", properties.remove("currency"));
        }
        if self.settings.flatten {
            properties = flatten(properties);
        }
        let name = metric_name(document)?;
        attributes
            .insert("metric".to_owned(), json!({"data": {"type": "metric", "attributes": {"name": name}}}));
        attributes.insert(
            "profile".to_owned(),
            json!({"data": {"type": "profile", "attributes": person.attributes}}),
        );
        attributes.insert("properties".to_owned(), Value::Object(properties));
        set(&mut attributes, "unique_id", pick_text(document, &["messageId"]));
        set(&mut attributes, "time", times::happened(document).and_then(times::rfc3339));
        let body = json!({"data": {"type": "event", "attributes": attributes}});
        Ok(self.post("/api/events", self.settings.revision, &body))
    }

    pub(super) fn post(&self, path: &str, revision: Revision, body: &Value) -> HttpRequest {
        HttpRequest::post(format!("https://{HOST}{path}"))
            .header("authorization", format!("Klaviyo-API-Key {}", self.settings.private_api_key.expose()))
            .header("accept", "application/json")
            .header("revision", revision.as_str())
            .json(body)
    }
}

/// Takes the event's worth out of its properties.
pub(super) fn worth(properties: &mut Map<String, Value>) -> Option<Value> {
    let name = WORTH.iter().find(|name| properties.get(**name).is_some_and(|value| !value.is_null()))?;
    properties.remove(*name)
}

/// What the event is called there.
pub(super) fn metric_name(document: &Document) -> Result<String, Reason> {
    let name = pick(document, &["event", "name", "properties.name"]).and_then(Value::as_str);
    name.map(|name| name.trim().to_owned()).ok_or_else(|| missing("the event's name"))
}
