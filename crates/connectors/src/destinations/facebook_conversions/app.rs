//! The app and the device that an event happened in, as Meta asks of events of apps.

use millrace_connector::Document;
use serde_json::{Map, Value, json};

use crate::destinations::shared::fields::pick;

/// What Meta calls extended device information: a list of sixteen texts in this order
/// (<https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/app-data>). What is not
/// known is empty.
const EXTENDED: [&[&str]; 15] = [
    &["context.app.namespace"],
    &["context.app.build"],
    &["context.app.version"],
    &["context.os.version"],
    &["context.device.model"],
    &["context.locale"],
    &[],
    &["context.network.carrier"],
    &["context.screen.width"],
    &["context.screen.height"],
    &["context.screen.density"],
    &[],
    &[],
    &[],
    &["context.timezone"],
];

/// The parameters of the app.
pub(super) fn describe(document: &Document) -> Map<String, Value> {
    let is_apple = document
        .first(&["context.device.type", "context.os.name"])
        .and_then(Value::as_str)
        .is_some_and(|name| matches!(name.to_lowercase().as_str(), "ios" | "ipados" | "tvos" | "watchos"));
    let mut extended = vec![if is_apple { "i2" } else { "a2" }.to_owned()];
    extended.extend(EXTENDED.iter().map(|paths| pick(document, paths).map(plain).unwrap_or_default()));
    let on = |paths: &[&str]| u8::from(pick(document, paths).is_some_and(is_on));
    let mut app = Map::new();
    app.insert(
        "advertiser_tracking_enabled".to_owned(),
        on(&["properties.advertiser_tracking_enabled", "context.device.adTrackingEnabled"]).into(),
    );
    app.insert(
        "application_tracking_enabled".to_owned(),
        on(&["properties.application_tracking_enabled", "context.device.adTrackingEnabled"]).into(),
    );
    app.insert("extinfo".to_owned(), json!(extended));
    if let Some(id) = pick(document, &["context.device.advertisingId"]) {
        app.insert("madid".to_owned(), id.clone());
    }
    app
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_on(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_u64() == Some(1) || value.as_str() == Some("true")
}
