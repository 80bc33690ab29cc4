//! Traits as the attributes of Braze's user.

use millrace_connector::Document;
use serde_json::{Map, Value, json};

use super::config::Settings;
use crate::destinations::shared::fields::{at, traits};

/// Attributes that Braze has a name for, and the traits' paths. A null counts: it unsets.
const STANDARD: &[(&str, &str)] = &[
    ("country", "address.country"),
    ("home_city", "address.city"),
    ("dob", "birthday"),
    ("email", "email"),
    ("first_name", "firstName"),
    ("gender", "gender"),
    ("image_url", "avatar"),
    ("last_name", "lastName"),
    ("phone", "phone"),
];

/// Traits that are said by the standard attributes, or by whom the request is about.
const SAID_OTHERWISE: &[&str] = &[
    "address",
    "birthday",
    "email",
    "firstName",
    "gender",
    "avatar",
    "lastName",
    "phone",
    "userId",
    "anonymousId",
];

/// The attributes that the event's traits make; none without traits.
pub(super) fn of(settings: &Settings, document: &Document) -> Map<String, Value> {
    let mut custom = traits(document);
    let mut attributes = Map::new();
    for (name, path) in STANDARD {
        if let Some(value) = at(&custom, path) {
            attributes.insert((*name).to_owned(), standard(name, value));
        }
    }
    custom.retain(|name, _| !SAID_OTHERWISE.contains(&name.as_str()));
    if settings.nested_arrays {
        let changes: Vec<bool> = custom.iter_mut().map(|(_, value)| change_list(value)).collect();
        if changes.contains(&true) {
            let merge = document.get("properties.mergeObjectsUpdateOperation").and_then(Value::as_bool);
            attributes.insert("_merge_objects".to_owned(), merge.unwrap_or(true).into());
        }
    }
    attributes.extend(custom);
    attributes
}

fn standard(name: &str, value: &Value) -> Value {
    match (name, value) {
        ("email", Value::String(email)) => email.to_lowercase().into(),
        ("gender", Value::String(gender)) => gender_letter(gender).map_or_else(|| value.clone(), Value::from),
        _ => value.clone(),
    }
}

/// Braze's letter for what people write.
fn gender_letter(gender: &str) -> Option<&'static str> {
    let letter = match gender.to_lowercase().as_str() {
        "woman" | "female" | "w" | "f" => "F",
        "man" | "male" | "m" => "M",
        "other" | "o" => "O",
        "not applicable" | "n" => "N",
        "unknown" | "u" => "U",
        "prefer not to say" | "p" => "P",
        _ => return None,
    };
    Some(letter)
}

/// Turns `add`, `update` and `remove` into Braze's `$add`, `$update` and `$remove`; whether there was one.
fn change_list(value: &mut Value) -> bool {
    let Value::Object(changes) = &*value else { return false };
    let mut list = Map::new();
    for (name, change) in [("add", as_it_is as fn(&Value) -> Value), ("update", update), ("remove", remove)] {
        if let Some(entries) = changes.get(name).and_then(Value::as_array) {
            list.insert(format!("${name}"), entries.iter().map(change).collect());
        }
    }
    if list.is_empty() {
        return false;
    }
    *value = Value::Object(list);
    true
}

fn as_it_is(entry: &Value) -> Value {
    entry.clone()
}

fn update(entry: &Value) -> Value {
    let Some((key, value, rest)) = identified(entry) else { return entry.clone() };
    json!({"$identifier_key": key, "$identifier_value": value, "$new_object": rest})
}

fn remove(entry: &Value) -> Value {
    let Some((key, value, _)) = identified(entry) else { return entry.clone() };
    json!({"$identifier_key": key, "$identifier_value": value})
}

/// The key that the entry names in `identifier`, that key's value, and the other fields.
fn identified(entry: &Value) -> Option<(String, Value, Map<String, Value>)> {
    let mut rest = entry.as_object()?.clone();
    let key = rest.remove("identifier")?.as_str()?.to_owned();
    let value = rest.remove(&key)?;
    Some((key, value, rest))
}
