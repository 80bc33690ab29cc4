//! The settings of a file's destination: their schema, their defaults, and what is wrong with them.

use millrace_connector::ConnectorError;
use serde_json::{Map, Value, json};

use super::spec::{Setting, SettingKind, Spec};
use crate::http::settings;

/// The JSON Schema of the settings, the common ones among them.
pub(super) fn schema(spec: &Spec) -> Value {
    let properties: Map<String, Value> =
        spec.settings.iter().map(|(name, setting)| (name.clone(), property(setting))).collect();
    let required: Vec<&String> =
        spec.settings.iter().filter(|(_, setting)| setting.required).map(|(name, _)| name).collect();
    settings::with_common(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": spec.name,
        "description": spec.description.as_ref().unwrap_or(&spec.summary),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    }))
}

fn property(setting: &Setting) -> Value {
    let kind = match setting.kind {
        SettingKind::String => "string",
        SettingKind::Integer => "integer",
        SettingKind::Number => "number",
        SettingKind::Boolean => "boolean",
        SettingKind::Array => "array",
        SettingKind::Object => "object",
    };
    let mut property = json!({ "type": kind, "description": setting.description });
    if let Some(fields) = property.as_object_mut() {
        if setting.secret {
            fields.insert("writeOnly".to_owned(), json!(true));
        }
        if let Some(default) = &setting.default {
            fields.insert("default".to_owned(), default.clone());
        }
        if !setting.options.is_empty() {
            fields.insert("enum".to_owned(), json!(setting.options));
        }
    }
    property
}

/// The settings that were given with the defaults of the others; a setting without either is null.
///
/// # Errors
/// `Pause`: all that is wrong, without values.
pub(super) fn complete(spec: &Spec, given: &Value, id: &str) -> Result<Value, ConnectorError> {
    settings::validate(given, &schema(spec), id)?;
    let mut complete = Map::new();
    for (name, setting) in &spec.settings {
        let value = given.get(name).or(setting.default.as_ref());
        complete.insert(name.clone(), value.cloned().unwrap_or(Value::Null));
    }
    Ok(Value::Object(complete))
}
