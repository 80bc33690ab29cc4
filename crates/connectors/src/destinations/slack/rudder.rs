//! RudderStack's `Config` of Slack.

use millrace_event_model::Reason;
use serde_json::{Value, json};

use crate::destinations::shared::rudder::{Config, settings};

/// What RudderStack calls itself in a message, so that a channel looks as before.
const USERNAME: &str = "RudderStack";
const ICON_URL: &str = "https://cdn.rudderlabs.com/rudderstack.png";

/// RudderStack's message of an identify, where none is set.
const IDENTIFY: &str = "Identified {{name}}{{traits}}";

/// Our settings, of their `Config`.
pub(super) fn translate(config: &Value) -> Result<Value, Reason> {
    let read = Config(config);
    let Some(url) = read.text("webhookUrl") else {
        return Err(Reason::new("invalid_settings", "webhookUrl is missing"));
    };
    let entries = |list: &str| -> Vec<Value> {
        let entries = config.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let named = |entry: &Value| {
            entry.get("eventName").and_then(Value::as_str).is_some_and(|name| !name.is_empty())
        };
        entries.into_iter().filter(named).collect()
    };
    let text = |entry: &Value, name: &str| {
        entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let regex = |entry: &Value| entry.get("eventRegex").and_then(Value::as_bool).unwrap_or(false);
    let events = entries("eventTemplateSettings")
        .iter()
        .filter_map(|entry| {
            let template = text(entry, "eventTemplate")?;
            Some(json!({ "event": text(entry, "eventName"), "regex": regex(entry), "template": template }))
        })
        .collect::<Vec<_>>();
    let channels = entries("eventChannelSettings").iter().filter_map(|entry| {
        let (webhook, channel) = (text(entry, "eventChannelWebhook"), text(entry, "eventChannel"));
        let said = webhook.is_some() || channel.is_some();
        said.then(|| json!({
            "event": text(entry, "eventName"), "regex": regex(entry), "webhook_url": webhook, "channel": channel,
        }))
    }).map(without_nulls).collect::<Vec<_>>();
    Ok(settings([
        ("webhook_url", Some(json!(url))),
        ("identify_template", Some(json!(read.text("identifyTemplate").unwrap_or(IDENTIFY)))),
        ("events", Some(json!(events))),
        ("channels", Some(json!(channels))),
        ("traits", Some(json!(read.texts("whitelistedTraitsSettings", "trait")))),
        ("username", Some(json!(USERNAME))),
        ("icon_url", Some(json!(ICON_URL))),
    ]))
}

fn without_nulls(mut entry: Value) -> Value {
    if let Some(fields) = entry.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    entry
}
