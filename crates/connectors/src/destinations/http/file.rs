//! Settings as the YAML file that they stand for. JSON is YAML.

use serde_json::{Map, Value, json};

/// Credentials and address go through the file's settings: they are values, never templates.
const SECRETS: [&str; 4] = ["username", "password", "token", "value"];

/// The file, and the settings for it. The settings given have kept their schema.
pub(super) fn of(given: &Value) -> (Value, Value) {
    let mut settings = Map::new();
    let mut declared = Map::new();
    let mut declare = |name: &str, value: &Value| {
        settings.insert(name.to_owned(), value.clone());
        declared.insert(name.to_owned(), json!({ "type": "string", "description": "a value" }));
    };
    declare("url", given.get("url").unwrap_or(&Value::Null));
    let mut auth = given.get("auth").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, value) in &mut auth {
        if SECRETS.contains(&name.as_str()) {
            declare(name, value);
            *value = json!(format!("{{{{ settings.{name} }}}}"));
        }
    }
    auth.entry("type").or_insert_with(|| json!("none"));
    let mut file = json!({
        "kind": "destination",
        "name": "http",
        "summary": "an HTTP API",
        "settings": declared,
        "http": { "base_url": "{{ settings.url }}", "auth": auth },
        "actions": [action(given)],
    });
    if let Some(fields) = file.as_object_mut() {
        for name in ["rate_limit", "concurrency", "ordering"] {
            fields.extend(given.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        if let (Some(timeout), Some(Value::Object(http))) = (given.get("timeout"), fields.get_mut("http")) {
            http.insert("timeout".to_owned(), timeout.clone());
        }
        fields.extend(given.get("batch").map(|batch| ("batch".to_owned(), self::batch(batch))));
    }
    for name in ["allow_private", "origin"] {
        settings.extend(given.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    (file, Value::Object(settings))
}

fn action(given: &Value) -> Value {
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let method = text("method").unwrap_or("POST");
    let parts = given.get("path").and_then(Value::as_array).into_iter().flatten();
    let path: String = parts.filter_map(Value::as_str).map(|part| format!("/{part}")).collect();
    let map = given.get("map").and_then(Value::as_object).cloned().unwrap_or_default();
    let usual = match method {
        "GET" | "DELETE" => "none",
        _ if map.is_empty() => "event",
        _ => "map",
    };
    let body = text("body").unwrap_or(usual);
    let format = text("format").unwrap_or("json");
    let mut request = json!({
        "method": method,
        "path": path,
        "headers": given.get("headers").cloned().unwrap_or_else(|| json!({})),
        "query": given.get("query").cloned().unwrap_or_else(|| json!({})),
        "format": if body == "none" { "none" } else { format },
    });
    if body == "event"
        && let Some(fields) = request.as_object_mut()
    {
        fields.insert("body".to_owned(), json!("item"));
    }
    let mut action = json!({ "name": "request", "request": request });
    if let Some(fields) = action.as_object_mut() {
        if body == "map" {
            let root = text("xml_root").filter(|_| format == "xml");
            let below = |path: String| root.map_or_else(|| path.clone(), |root| format!("{root}.{path}"));
            let map: Map<String, Value> = map.into_iter().map(|(path, from)| (below(path), from)).collect();
            fields.insert("map".to_owned(), Value::Object(map));
        }
        fields.extend(given.get("when").map(|when| ("when".to_owned(), when.clone())));
    }
    action
}

fn batch(given: &Value) -> Value {
    let mut batch = Map::new();
    for name in ["max_items", "max_wait"] {
        batch.extend(given.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    batch.insert("wrap".to_owned(), given.get("field").cloned().unwrap_or_else(|| json!(".")));
    Value::Object(batch)
}
