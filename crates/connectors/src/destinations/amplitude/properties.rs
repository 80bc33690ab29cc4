//! The user properties of an Amplitude event.

use millrace_connector::Document;
use serde_json::{Map, Value, json};

use super::config::Settings;
use crate::destinations::shared::fields::{Line, fill, object, says_something, take};

/// Where a visit came from first.
const REFERRER: &[Line] = &[
    ("initial_referrer", &["context.page.initial_referrer"]),
    ("initial_referring_domain", &["context.page.initial_referring_domain"]),
];

/// Place names are fields of the event, not properties of the user.
const PLACE: [&str; 2] = ["city", "country"];

/// Fields of the event that a row of reverse ETL sets by traits of the same names.
const MAPPED: &[&str] = &[
    "app_version",
    "carrier",
    "city",
    "country",
    "device_brand",
    "device_manufacturer",
    "device_model",
    "dma",
    "language",
    "os_name",
    "os_version",
    "platform",
    "region",
];

/// Where the visit came from, its first referrer and each part of the campaign as `utm_…`, over what the
/// sender calls user properties itself.
pub(super) fn origin(document: &Document) -> Map<String, Value> {
    let mut properties = object(document, "userProperties");
    fill(&mut properties, document, REFERRER);
    for (name, value) in object(document, "context.campaign") {
        if !value.is_null() {
            properties.insert(format!("utm_{name}"), value);
        }
    }
    properties
}

/// Of an event that is no identify: the origin, and the traits that came with it.
pub(super) fn of_event(document: &Document) -> Map<String, Value> {
    let mut properties = origin(document);
    properties.extend(traits(document));
    remove_place(&mut properties);
    if let Some(Value::Object(address)) = properties.get_mut("address") {
        remove_place(address);
    }
    properties
}

/// The event's own traits, else those of its context: an identify says all that it means to say.
fn traits(document: &Document) -> Map<String, Value> {
    let own = object(document, "traits");
    if own.is_empty() { object(document, "context.traits") } else { own }
}

fn remove_place(properties: &mut Map<String, Value>) {
    for name in PLACE {
        properties.remove(name);
    }
}

/// Of an identify: the origin, and the traits, some of them as operations. Fields of the event that rows
/// of reverse ETL set are put into `event`.
pub(super) fn of_identify(
    document: &Document,
    settings: &Settings,
    event: &mut Map<String, Value>,
) -> Map<String, Value> {
    let mut traits = traits(document);
    if is_mapped(document) {
        mapped(document, &mut traits, event);
    }
    let mut properties = operations(document, settings, &mut traits);
    properties.extend(origin(document));
    if let Some(Value::Object(address)) = traits.get("address").cloned() {
        traits.remove("address");
        for (name, value) in address {
            traits.entry(name).or_insert(value);
        }
    }
    properties.extend(traits);
    remove_place(&mut properties);
    properties
}

/// Whether a sync of reverse ETL made it: ours, or RudderStack's.
fn is_mapped(document: &Document) -> bool {
    document.op().is_some()
        || matches!(document.get("context.mappedToDestination"), Some(Value::Bool(true)))
        || document.text("context.mappedToDestination") == Some("true")
}

/// A row names its user by `context.externalId`, and sets fields of the event by their names.
fn mapped(document: &Document, traits: &mut Map<String, Value>, event: &mut Map<String, Value>) {
    if let Some(Value::Array(ids)) = document.get("context.externalId")
        && let Some(first) = ids.first()
        && let (Some(kind), Some(id)) = (first.get("identifierType"), first.get("id"))
        && let Some(kind @ ("user_id" | "device_id")) = kind.as_str()
    {
        traits.insert(kind.to_owned(), id.clone());
        event.insert(kind.to_owned(), id.clone());
    }
    for name in MAPPED {
        if let Some(value) = traits.remove(*name).filter(says_something) {
            event.insert((*name).to_owned(), value);
        }
    }
}

/// The traits that are not set but added, appended and so on, taken out of `traits`, and the fields that
/// are to be unset.
fn operations(
    document: &Document,
    settings: &Settings,
    traits: &mut Map<String, Value>,
) -> Map<String, Value> {
    let mut properties = Map::new();
    let operations = [
        ("$add", &settings.add),
        ("$setOnce", &settings.set_once),
        ("$append", &settings.append),
        ("$prepend", &settings.prepend),
    ];
    for (operation, paths) in operations {
        let taken = paths.iter().filter_map(|path| Some((path.clone(), take(traits, path)?)));
        insert_some(&mut properties, operation, taken.collect());
    }
    let unset = document.get("integrations.Amplitude.fieldsToUnset").and_then(Value::as_array);
    let unset = unset.into_iter().flatten().filter_map(Value::as_str);
    // Amplitude unsets whatever the value is.
    insert_some(&mut properties, "$unset", unset.map(|name| (name.to_owned(), json!("-"))).collect());
    properties
}

fn insert_some(properties: &mut Map<String, Value>, operation: &str, fields: Map<String, Value>) {
    if !fields.is_empty() {
        properties.insert(operation.to_owned(), Value::Object(fields));
    }
}
