//! The schema of settings: whether it tells people what they need, and which values are secret.

use serde_json::Value;

use super::Finding;
use crate::DestinationEntry;

/// How names of settings end that hold secrets.
const SECRET_NAMES: [&str; 6] = ["secret", "password", "api_key", "token", "access_key", "write_key"];

pub(super) fn described(entry: &DestinationEntry) -> Finding {
    let schema = (entry.schema)();
    if entry.summary.trim().is_empty() {
        return Finding::Broken("it has no summary".to_owned());
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Finding::Broken("its settings have no schema".to_owned());
    };
    for (name, property) in properties {
        if property.get("description").and_then(Value::as_str).unwrap_or_default().trim().len() < 4 {
            return Finding::Broken(format!("setting {name:?} has no description"));
        }
        let named_so = SECRET_NAMES.iter().any(|word| name.ends_with(word));
        let text = property.get("type").is_none_or(|kind| kind == "string");
        if named_so && text && !is_secret(property, &schema) {
            return Finding::Broken(format!("setting {name:?} is not marked as a secret"));
        }
    }
    Finding::Kept
}

/// `writeOnly`, here or where a reference leads.
fn is_secret(property: &Value, schema: &Value) -> bool {
    let text = property.to_string();
    if text.contains("\"writeOnly\":true") {
        return true;
    }
    let definitions = schema.get("$defs").and_then(Value::as_object);
    definitions.is_some_and(|definitions| {
        definitions.iter().any(|(name, definition)| {
            text.contains(&format!("#/$defs/{name}\""))
                && definition.to_string().contains("\"writeOnly\":true")
        })
    })
}

/// How deep settings are looked into.
const MAX_DEPTH: u32 = 16;

/// The values of secret settings, however deep they stand.
pub(super) fn secrets(entry: &DestinationEntry, settings: &Value) -> Vec<String> {
    let root = (entry.schema)();
    let mut found = Vec::new();
    collect(&root, &root, settings, MAX_DEPTH, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

/// Follows a schema and a value side by side.
fn collect(schema: &Value, root: &Value, value: &Value, depth: u32, found: &mut Vec<String>) {
    if depth == 0 {
        return;
    }
    let mut enter = |schema: &Value, value: &Value| collect(schema, root, value, depth - 1, found);
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
    if let Some(referred) = reference.and_then(|path| root.pointer(path)) {
        enter(referred, value);
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        let choices = schema.get(choice).and_then(Value::as_array).into_iter().flatten();
        choices.for_each(|schema| enter(schema, value));
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        values.iter().for_each(|value| enter(items, value));
    }
    if let Some(fields) = value.as_object() {
        for (name, value) in fields {
            let named = schema.get("properties").and_then(|properties| properties.get(name));
            if let Some(schema) = named.or_else(|| schema.get("additionalProperties")) {
                enter(schema, value);
            }
        }
    }
    if schema.get("writeOnly") == Some(&Value::Bool(true)) {
        texts(value, found);
    }
}

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
