//! Which settings of a connector are secrets, and what is shown in their place.

use std::collections::BTreeSet;

use serde_json::Value;

/// What is shown in place of a secret.
const MASK: &str = "***";

/// A shorter secret is only hidden where it is the whole of a text: its letters stand in other words too.
const MIN_PART_BYTES: usize = 3;

/// Whether a property of a connector's schema is a secret.
pub(crate) fn is_secret(property: &Value, schema: &Value) -> bool {
    if property.get("writeOnly") == Some(&Value::Bool(true)) {
        return true;
    }
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        let definition = reference.strip_prefix('#').and_then(|at| schema.pointer(at));
        return definition.is_some_and(|definition| definition.get("writeOnly") == Some(&Value::Bool(true)));
    }
    let variants = ["anyOf", "oneOf"].iter().filter_map(|name| property.get(*name)?.as_array()).flatten();
    let inner = ["items", "additionalProperties"].iter().filter_map(|name| property.get(*name));
    variants.chain(inner).any(|inner| is_secret(inner, schema))
}

/// The secrets among the settings of a connector.
pub(crate) fn secrets(schema: &Value, settings: &Value) -> Vec<String> {
    let mut names = BTreeSet::new();
    find_names(schema, schema, &mut names);
    let mut secrets = Vec::new();
    find(settings, &names, false, &mut secrets);
    // The longest first: one may be part of another.
    secrets.sort_unstable_by_key(|secret: &String| std::cmp::Reverse(secret.len()));
    secrets
}

/// The names of secrets, wherever in the schema they stand.
fn find_names(part: &Value, schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(properties) = part.get("properties").and_then(Value::as_object) {
        let secret = properties.iter().filter(|(_, property)| is_secret(property, schema));
        names.extend(secret.map(|(name, _)| name.clone()));
    }
    match part {
        Value::Object(fields) => fields.values().for_each(|inner| find_names(inner, schema, names)),
        Value::Array(list) => list.iter().for_each(|inner| find_names(inner, schema, names)),
        _ => {}
    }
}

fn find(settings: &Value, names: &BTreeSet<String>, within: bool, secrets: &mut Vec<String>) {
    match settings {
        Value::Object(fields) => {
            for (name, value) in fields {
                find(value, names, within || names.contains(name), secrets);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| find(value, names, within, secrets)),
        Value::String(text) if within && !text.is_empty() => secrets.push(text.clone()),
        _ => {}
    }
}

/// Hides secrets in the requests of a preview, and of every `authorization` all but its scheme: what stands
/// there is made of secrets.
pub(crate) fn mask(shown: &mut Value, secrets: &[String]) {
    match shown {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name.eq_ignore_ascii_case("authorization") => {
                        let scheme = text.split_once(' ').map_or("", |(scheme, _)| scheme);
                        *text = format!("{scheme} {MASK}").trim_start().to_owned();
                    }
                    value => mask(value, secrets),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| mask(value, secrets)),
        Value::String(text) => {
            for secret in secrets {
                if text == secret {
                    MASK.clone_into(text);
                } else if secret.len() >= MIN_PART_BYTES && text.contains(secret.as_str()) {
                    *text = text.replace(secret.as_str(), MASK);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_of_settings_are_found_by_their_schema_and_hidden_wherever_they_stand() {
        let schema = json!({
            "properties": {
                "api_key": { "$ref": "#/$defs/Secret" },
                "pin": { "anyOf": [{ "type": "string", "writeOnly": true }, { "type": "null" }] },
                "auth": { "$ref": "#/$defs/Auth" },
                "region": { "type": "string" },
            },
            "$defs": {
                "Secret": { "type": "string", "writeOnly": true },
                "Auth": { "oneOf": [{ "properties": { "token": { "$ref": "#/$defs/Secret" } } }] },
            },
        });
        let settings = json!({"api_key": "key-1", "pin": "7", "auth": {"token": "key-12"}, "region": "eu"});
        let secrets = secrets(&schema, &settings);
        assert_eq!(secrets, ["key-12", "key-1", "7"]);
        let mut shown = json!([{
            "url": "https://eu.acme.test/7/key-1",
            "headers": {"authorization": "Basic a2V5", "x-key": "key-12"},
            "query": {"pin": "7"},
            "body": {"key": "key-1", "region": "eu"},
        }]);
        mask(&mut shown, &secrets);
        let expected = json!([{
            "url": "https://eu.acme.test/7/***",
            "headers": {"authorization": "Basic ***", "x-key": "***"},
            "query": {"pin": "***"},
            "body": {"key": "***", "region": "eu"},
        }]);
        assert_eq!(shown, expected);
        assert!(!is_secret(&schema["properties"]["auth"], &schema));
    }
}
