//! RudderStack's settings of Google Analytics 4 as ours.

use millrace_event_model::Reason;
use serde_json::{Value, json};

use crate::destinations::shared::rudder::{Config, settings};

/// Our settings, of a `Config` of RudderStack's destination `GA4`.
///
/// # Errors
/// There is no API secret, or no id of the data stream.
pub(crate) fn translate(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    let need = |name: &str| {
        let missing = || Reason::new("invalid_settings", format!("{name} is missing in the Config"));
        config.text(name).map(Value::from).ok_or_else(missing)
    };
    let app = config.text("typesOfClient") == Some("firebase");
    let stream = need(if app { "firebaseAppId" } else { "measurementId" })?;
    Ok(settings([
        ("api_secret", Some(need("apiSecret")?)),
        (if app { "firebase_app_id" } else { "measurement_id" }, Some(stream)),
        ("block_page_views", Some(json!(config.on("blockPageViewEvent")))),
        ("extend_page_views", Some(json!(config.on("extendPageViewParams")))),
        ("ignored_traits", Some(json!(config.texts("piiPropertiesToIgnore", "piiProperty")))),
        ("validate", Some(json!(config.on("debugMode")))),
    ]))
}
