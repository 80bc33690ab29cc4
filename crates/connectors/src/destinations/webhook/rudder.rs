//! The webhook as RudderStack's is: its `Config`, and what an event there may say of its own request.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::{Method, Settings};
use crate::destinations::shared::flatten::flatten;
use crate::destinations::shared::rudder::{Config, settings};

/// Our settings, of their `Config`.
pub(crate) fn translate(config: &Value) -> Result<Value, Reason> {
    let read = Config(config);
    let Some(url) = read.text("webhookUrl") else {
        return Err(Reason::new("invalid_settings", "webhookUrl is missing"));
    };
    let mut headers = Map::new();
    for entry in config.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        if !text("from").is_empty() && !text("from").eq_ignore_ascii_case("content-type") {
            headers.insert(text("from").to_owned(), json!(text("to")));
        }
    }
    Ok(settings([
        ("url", Some(json!(url))),
        ("method", read.text("webhookMethod").map(|method| json!(method.to_uppercase()))),
        ("headers", Some(Value::Object(headers))),
        ("rudderstack_compatible", Some(json!(true))),
    ]))
}

/// The request of an event that may say where it goes (`fullPath`, `appendPath`) and with which headers
/// (`header`). GET and DELETE carry its properties as the query.
pub(super) fn request(config: &Settings, document: &Document) -> Result<HttpRequest, Reason> {
    let mut fields = document.fields().clone();
    let own = |text: Option<Value>| text.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    let (full, append, headers) = match config.rudderstack_compatible {
        true => (own(fields.remove("fullPath")), own(fields.remove("appendPath")), fields.remove("header")),
        false => (String::new(), String::new(), None),
    };
    let base = if full.is_empty() { config.url.as_str().to_owned() } else { full };
    // The settings' address has a slash where it has no path; theirs is joined without looking.
    let base = if append.starts_with('/') { base.trim_end_matches('/').to_owned() } else { base };
    let mut request = HttpRequest::new(config.method.as_str(), format!("{base}{append}"));
    request.headers.extend(config.headers.pairs().iter().cloned());
    for (name, value) in headers.as_ref().and_then(Value::as_object).into_iter().flatten() {
        request = request.header(&name.to_lowercase(), text(value));
    }
    if matches!(config.method, Method::Get | Method::Delete) {
        let properties = fields.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, value) in flatten(properties) {
            request = request.query(&name, text(&value));
        }
        return Ok(request);
    }
    if config.rudderstack_compatible {
        with_address(&mut fields);
    }
    Ok(request.json(&Value::Object(fields)))
}

/// The client's address in the context, where that says none.
fn with_address(fields: &mut Map<String, Value>) {
    let Some(address) = fields.get("request_ip").filter(|address| !address.is_null()).cloned() else {
        return;
    };
    if let Some(Value::Object(context)) = fields.get_mut("context")
        && context.get("ip").is_none_or(Value::is_null)
    {
        context.insert("ip".to_owned(), address);
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
