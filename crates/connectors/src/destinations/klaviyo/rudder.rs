//! RudderStack's settings of Klaviyo as ours.

use millrace_event_model::Reason;
use serde_json::{Value, json};

use crate::destinations::shared::rudder::{Config, settings};

/// Its name there.
pub(super) const NAME: &str = "KLAVIYO";

/// Ours, of a destination's `Config`.
pub(super) fn translate(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    let revision = match config.text("apiVersion") {
        Some("v3") => "2026-04-15",
        Some("v2") => "2024-10-15",
        _ => "2023-02-22",
    };
    let by = if config.on("enforceEmailAsPrimary") { "email_or_phone" } else { "user_id" };
    let consent = config.0.get("consent").and_then(Value::as_array).cloned().unwrap_or_default();
    let consent: Vec<_> = consent.into_iter().filter(|name| *name == "email" || *name == "sms").collect();
    Ok(settings([
        ("private_api_key", config.text("privateApiKey").map(Value::from)),
        ("revision", Some(revision.into())),
        ("identify_by", Some(by.into())),
        ("flatten", Some(config.on("flattenProperties").into())),
        ("list", config.text("listId").map(Value::from)),
        ("consent", Some(json!(consent))),
    ]))
}
