//! RudderStack's `Config` as our settings.

use millrace_event_model::Reason;
use serde_json::{Value, json};

use crate::destinations::shared::rudder::{self, Config};

/// Our settings.
pub(crate) fn translate(config: &Value) -> Result<Value, Reason> {
    let (hash, drop) = personal(config);
    let config = Config(config);
    let test_code = config.text("testEventCode").filter(|_| config.on("testDestination"));
    let limited = config.on("limitedDataUsage") || config.on("limitedDataUSage");
    Ok(rudder::settings([
        ("dataset_id", config.text("datasetId").map(Value::from)),
        ("access_token", config.text("accessToken").map(Value::from)),
        ("action_source", config.text("actionSource").map(Value::from)),
        ("test_event_code", test_code.map(Value::from)),
        ("limited_data_use", Some(json!(limited))),
        ("external_id", Some(json!(!config.on("removeExternalId")))),
        ("events", Some(Value::Object(config.pairs("eventsToEvents")))),
        ("content_types", Some(Value::Object(config.pairs("categoryToContent")))),
        ("keep_properties", Some(json!(config.texts("whitelistPiiProperties", "whitelistPiiProperties")))),
        ("drop_properties", Some(json!(drop))),
        ("hash_properties", Some(json!(hash))),
    ]))
}

/// The properties that are hashed, and those that are left out.
fn personal(config: &Value) -> (Vec<&str>, Vec<&str>) {
    const NAME: &str = "blacklistPiiProperties";
    let list = config.get(NAME).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = list.iter().filter_map(|entry| Some((entry.get(NAME)?.as_str()?, entry)));
    let (mut hash, mut drop) = (Vec::new(), Vec::new());
    for (name, entry) in named.filter(|(name, _)| !name.is_empty()) {
        let hashed = entry.get("blacklistPiiHash") == Some(&Value::Bool(true));
        if hashed { &mut hash } else { &mut drop }.push(name);
    }
    (hash, drop)
}
