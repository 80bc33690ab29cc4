//! RudderStack's `Config` as our settings.

use millrace_event_model::Reason;
use serde_json::Value;

use crate::destinations::shared::rudder::{self, Config};

/// Our settings. One request per item, as RudderStack shows them.
pub(crate) fn translate(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    let in_europe = config.text("datacenter").is_some_and(|name| name.eq_ignore_ascii_case("eu"));
    Ok(rudder::settings([
        ("site_id", config.text("siteID").map(Value::from)),
        ("api_key", config.text("apiKey").map(Value::from)),
        ("region", Some(Value::from(if in_europe { "eu" } else { "us" }))),
        ("device_token_event", config.text("deviceTokenEventName").map(Value::from)),
    ]))
}
