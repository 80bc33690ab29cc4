//! Who an event is about: ids, user properties, consent.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::{Settings, Stream};
use super::names::is_user_property;
use crate::destinations::shared::fields::{missing, object, pick_text, says_something, text};
use crate::destinations::shared::times::happened;

/// Under which names senders leave options for this destination in `integrations`.
const NAMES: [&str; 3] = ["Google Analytics 4 (GA4)", "Google Analytics 4", "GA4"];

/// Google drops user properties with longer texts.
const MAX_TEXT_CHARS: usize = 36;

/// What a person may consent to.
const CONSENTS: [&str; 2] = ["ad_user_data", "ad_personalization"];

/// An option that the sender leaves for this destination.
pub(super) fn option<'d>(document: &'d Document, name: &str) -> Option<&'d Value> {
    let integrations = document.get("integrations")?.as_object()?;
    let options = NAMES.iter().filter_map(|destination| integrations.get(*destination)?.as_object());
    options.filter_map(|options| options.get(name)).find(|value| says_something(value))
}

/// The part of the request that is not the event.
///
/// # Errors
/// Nothing says which browser or app it is.
pub(super) fn of(
    document: &Document,
    stream: Stream<'_>,
    settings: &Settings,
) -> Result<Map<String, Value>, Reason> {
    let mut body = Map::new();
    let (name, id) = instance(document, stream)?;
    body.insert(name.to_owned(), json!(id));
    if let Some(millis) = happened(document) {
        body.insert("timestamp_micros".to_owned(), json!(millis * 1_000));
    }
    if let Some(id) = pick_text(document, &["userId"]) {
        body.insert("user_id".to_owned(), json!(id));
    }
    if let Some(allowed) = tracking_allowed(document) {
        body.insert("non_personalized_ads".to_owned(), json!(!allowed));
    }
    for (name, fields) in
        [("user_properties", properties(document, settings)), ("consent", consent(document))]
    {
        if !fields.is_empty() {
            body.insert(name.to_owned(), Value::Object(fields));
        }
    }
    Ok(body)
}

/// The browser, or the app on one device.
fn instance(document: &Document, stream: Stream<'_>) -> Result<(&'static str, String), Reason> {
    match stream {
        Stream::Web(_) => {
            let told = option(document, "clientId").and_then(text);
            let id = told.or_else(|| external_id(document, "ga4ClientId"));
            // Of a message that names no browser it is one of its own; Google still counts its user once.
            let id = id.or_else(|| pick_text(document, &["anonymousId", "messageId"]));
            let missing = || missing("anonymousId, or an external id of type ga4ClientId");
            Ok(("client_id", id.ok_or_else(missing)?))
        }
        Stream::App(_) => {
            let id = external_id(document, "ga4AppInstanceId");
            Ok(("app_instance_id", id.ok_or_else(|| missing("an external id of type ga4AppInstanceId"))?))
        }
    }
}

fn external_id(document: &Document, kind: &str) -> Option<String> {
    let ids = document.get("context.externalId")?.as_array()?;
    let found = ids.iter().find(|id| id.get("type").and_then(Value::as_str) == Some(kind))?;
    found.get("id").filter(|id| says_something(id)).and_then(text)
}

/// What the device says about tracking by advertisers.
fn tracking_allowed(document: &Document) -> Option<bool> {
    match document.get("context.device.adTrackingEnabled")? {
        Value::Bool(allowed) => Some(*allowed),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn properties(document: &Document, settings: &Settings) -> Map<String, Value> {
    let mut known = object(document, "context.traits");
    if document.event_type() == "identify" {
        known.extend(object(document, "traits"));
    }
    known.extend(object(document, "properties.user_properties"));
    let fits = |name: &str, value: &Value| {
        let short = match value {
            Value::String(text) => !text.is_empty() && text.chars().count() <= MAX_TEXT_CHARS,
            Value::Number(_) | Value::Bool(_) => true,
            _ => false,
        };
        short && is_user_property(name) && !settings.ignored_traits.iter().any(|ignored| ignored == name)
    };
    let fitting = known.into_iter().filter(|(name, value)| fits(name, value));
    fitting.map(|(name, value)| (name, json!({ "value": value }))).collect()
}

/// What the person was asked for, and answered: anything but a yes or no says nothing.
fn consent(document: &Document) -> Map<String, Value> {
    let Some(consents) = option(document, "consents") else { return Map::new() };
    let told = CONSENTS.iter().filter_map(|name| Some((*name, consents.get(*name)?.as_str()?)));
    let known = told.filter(|(_, answer)| matches!(*answer, "GRANTED" | "DENIED"));
    known.map(|(name, answer)| (name.to_owned(), json!(answer))).collect()
}
