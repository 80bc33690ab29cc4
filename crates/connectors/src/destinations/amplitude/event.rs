//! What each Amplitude event says about its sender: device, app, place, session.

use millrace_connector::Document;
use serde_json::{Map, Value, json};

use super::config::Settings;
use crate::destinations::shared::fields::{Line, fill, pick, pick_text, set};
use crate::destinations::shared::times::happened;
use crate::destinations::shared::user_agent::{browser, system};

/// Fields of an event, by where they come from.
const FIELDS: &[Line] = &[
    ("insert_id", &["messageId"]),
    ("ip", &["context.ip", "request_ip"]),
    ("app_name", &["context.app.name"]),
    ("app_version", &["context.app.version"]),
    ("carrier", &["context.network.carrier"]),
    ("language", &["context.locale"]),
    ("platform", &["context.device.type"]),
    ("os_name", &["context.os.name"]),
    ("os_version", &["context.os.version"]),
    ("device_model", &["context.device.model"]),
    ("device_manufacturer", &["context.device.manufacturer"]),
    ("location_lat", &["context.location.latitude"]),
    ("location_lng", &["context.location.longitude"]),
    ("region", &["context.location.region"]),
    ("dma", &["context.location.dma"]),
    ("country", &["context.location.country", "traits.address.country", "context.traits.address.country"]),
    ("city", &["context.location.city", "traits.address.city", "context.traits.address.city"]),
];

/// Fields that only Android has.
const ANDROID: &[Line] = &[("adid", &["context.device.advertisingId"])];

/// Fields that only Apple's systems have.
const APPLE: &[Line] = &[("idfa", &["context.device.advertisingId"]), ("idfv", &["context.device.id"])];

/// Apple's systems, as SDKs name them in `context.device.type`.
const APPLE_SYSTEMS: &[&str] = &["ios", "ipados", "tvos", "watchos", "visionos"];

/// The event with all but its type and properties.
pub(super) fn base(document: &Document, settings: &Settings) -> Map<String, Value> {
    let mut event = Map::new();
    fill(&mut event, document, FIELDS);
    match document.text("channel") {
        Some("web") => web(&mut event, document),
        Some("mobile") => brand(&mut event, document, settings),
        _ => {}
    }
    let platform = document.text("context.device.type").unwrap_or_default().to_lowercase();
    if platform == "android" {
        fill(&mut event, document, ANDROID);
    }
    if APPLE_SYSTEMS.contains(&platform.as_str()) {
        fill(&mut event, document, APPLE);
    }
    set(&mut event, "user_id", pick_text(document, &["userId"]));
    set(&mut event, "device_id", device_id(document, settings));
    set(&mut event, "time", time(document));
    event.insert("session_id".to_owned(), json!(session_id(document).unwrap_or(NO_SESSION)));
    options(&mut event, document);
    // What RudderStack calls itself there, so that charts that look for it go on after a move.
    event.insert("library".to_owned(), json!("rudderstack"));
    event
}

/// A browser stands for the system, and the system for the device: so Amplitude's own web SDK says it.
fn web(event: &mut Map<String, Value>, document: &Document) {
    event.insert("platform".to_owned(), json!("Web"));
    let user_agent = document.text("context.userAgent").unwrap_or_default();
    if let Some((name, version)) = browser(user_agent) {
        event.insert("os_name".to_owned(), json!(name));
        event.insert("os_version".to_owned(), json!(version));
    }
    set(event, "device_model", system(user_agent));
}

fn brand(event: &mut Map<String, Value>, document: &Document, settings: &Settings) {
    let field = if settings.own_device_brand { "brand" } else { "manufacturer" };
    set(event, "device_brand", pick_text(document, &[&format!("context.device.{field}")]));
}

/// The device that the event names, else the anonymous id, which stands for the browser.
fn device_id(document: &Document, settings: &Settings) -> Option<String> {
    let own: &[&str] = &["context.device.id", "anonymousId"];
    pick_text(document, if settings.anonymous_id_as_device_id { &["anonymousId"] } else { own })
}

/// Milliseconds since 1970. An event that says none cannot come from a pipeline, and is as old as
/// RudderStack makes it; Amplitude gives a row of reverse ETL that of its arrival.
fn time(document: &Document) -> Option<i64> {
    happened(document).or_else(|| document.op().is_none().then_some(0))
}

/// Outside of any session.
const NO_SESSION: i64 = -1;

/// A number, perhaps as text and behind a colon: `1598597129`, `user:1598597129`.
fn session_id(document: &Document) -> Option<i64> {
    let number = |path: &&str| pick_text(document, &[path])?.rsplit(':').next()?.trim().parse().ok();
    ["context.sessionId", "session_id"].iter().find_map(number)
}

/// What the sender asks for under `integrations.Amplitude`.
fn options(event: &mut Map<String, Value>, document: &Document) {
    if let Some(id) = pick(document, &["integrations.Amplitude.event_id"]).filter(|id| id.is_i64()) {
        event.insert("event_id".to_owned(), id.clone());
    }
    if document.get("integrations.Amplitude.skipUserPropertiesSync") == Some(&Value::Bool(true)) {
        event.insert("$skip_user_properties_sync".to_owned(), Value::Bool(true));
    }
}
