//! The parameters of an event.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Number, Value, json};

use super::items;
use super::names::is_param;
use super::standard::{Items, Standard, Worth};
use super::user::option;
use crate::destinations::shared::fields::{Line, fill, missing, object, pick, says_something};
use crate::destinations::shared::flatten::flatten_lists;

/// Where the visitor is.
const PAGE: &[Line] = &[
    ("page_location", &["context.page.url"]),
    ("page_referrer", &["context.page.referrer"]),
    ("page_title", &["context.page.title"]),
];

/// A campaign that an event is about.
const CAMPAIGN: &[Line] = &[
    ("campaign_id", &["context.campaign.id"]),
    ("campaign", &["context.campaign.name"]),
    ("source", &["context.campaign.source"]),
    ("medium", &["context.campaign.medium"]),
    ("term", &["context.campaign.term"]),
    ("content", &["context.campaign.content"]),
];

/// Properties that are said elsewhere in the request.
const SAID_ELSEWHERE: [&str; 5] =
    ["engagementTimeMsec", "products", "sessionId", "sessionNumber", "user_properties"];

/// Where the value of an event stands.
const VALUE: [&str; 3] = ["value", "total", "revenue"];

/// Google wants a currency with each value.
const DEFAULT_CURRENCY: &str = "USD";

/// Google counts no active user without a time of engagement.
const LEAST_ENGAGEMENT: u64 = 1;

/// Of an event that Google has no rules for.
pub(super) fn of_custom(document: &Document, properties: &Map<String, Value>) -> Map<String, Value> {
    let mut params = custom(properties.clone(), &[]);
    // Google takes items with any event.
    if let Some(items) = list(properties, "products").and_then(items::of_list) {
        params.insert("items".to_owned(), Value::Array(items));
    }
    complete(document, properties, &mut params);
    params
}

/// Of an event about a campaign.
pub(super) fn of_campaign(document: &Document, properties: &Map<String, Value>) -> Map<String, Value> {
    let mut params = of_custom(document, properties);
    fill(&mut params, document, CAMPAIGN);
    params
}

/// Of a page view; `extended` with all of `context.page`.
pub(super) fn of_page(document: &Document, extended: bool) -> Map<String, Value> {
    let properties = object(document, "properties");
    let mut params = if extended { custom(object(document, "context.page"), &[]) } else { Map::new() };
    params.extend(of_custom(document, &properties));
    params
}

/// Of an event that Google knows. `strict`: Google has no use for it without what it requires.
///
/// # Errors
/// It has no product, or one without id and name, or lacks a parameter that it cannot do without.
pub(super) fn of_standard(
    document: &Document,
    properties: &Map<String, Value>,
    standard: &Standard,
    strict: bool,
) -> Result<Map<String, Value>, Reason> {
    let mut used: Vec<&str> = standard.params.iter().flat_map(|(_, from)| from.iter().copied()).collect();
    let mut found = Map::new();
    for (name, from) in standard.params {
        let value = from.iter().find_map(|from| properties.get(*from).filter(|value| says_something(value)));
        if let Some(value) = value {
            let value = if NUMBERS.contains(name) { numeric(value) } else { value.clone() };
            found.insert((*name).to_owned(), value);
        }
    }
    let (items, own) = items(properties, standard.items, strict)?;
    if own {
        used.extend(items::sources());
    }
    if !items.is_empty() {
        used.push("items");
        found.insert("items".to_owned(), Value::Array(items));
    }
    if standard.value != Worth::Nothing {
        used.extend(VALUE);
        used.push("currency");
        found.extend(value(properties, standard.value, strict));
    }
    let mut params = custom(properties.clone(), &used);
    params.extend(found);
    if strict && let Some(name) = standard.required.iter().find(|name| !params.contains_key(**name)) {
        return Err(missing(&format!("{name} of the event {}", standard.event)));
    }
    complete(document, properties, &mut params);
    Ok(params)
}

/// Parameters of Google's events that are numbers, also where they are sent as text.
const NUMBERS: [&str; 2] = ["shipping", "tax"];

/// The items, and whether it is one that the event's own properties are about.
fn items(properties: &Map<String, Value>, needed: Items, strict: bool) -> Result<(Vec<Value>, bool), Reason> {
    let nameless = || missing("product_id or name of a product");
    if let Some(products) = list(properties, "products") {
        return match items::of_list(products) {
            Some(items) => Ok((items, false)),
            None if needed == Items::None => Ok((Vec::new(), false)),
            None => Err(nameless()),
        };
    }
    if let Some(items) = list(properties, "items") {
        return Ok((items.to_vec(), false));
    }
    if needed != Items::Required {
        return Ok((Vec::new(), false));
    }
    match items::of_properties(properties) {
        Some(item) => Ok((vec![item], true)),
        None if strict => Err(nameless()),
        None => Ok((Vec::new(), false)),
    }
}

fn list<'p>(properties: &'p Map<String, Value>, name: &str) -> Option<&'p [Value]> {
    properties.get(name)?.as_array().map(Vec::as_slice).filter(|list| !list.is_empty())
}

/// The value and its currency; in `strict` events a currency also where there is no value.
fn value(properties: &Map<String, Value>, worth: Worth, strict: bool) -> Map<String, Value> {
    let mut found = Map::new();
    let currency = properties.get("currency").filter(|currency| says_something(currency)).cloned();
    let told = VALUE.iter().find_map(|name| properties.get(*name).filter(|value| says_something(value)));
    let value = match told {
        Some(told) => Some(numeric(told)),
        None if worth == Worth::Product => items::worth(properties).map(whole),
        None => None,
    };
    let currency = currency.or_else(|| (strict || value.is_some()).then(|| json!(DEFAULT_CURRENCY)));
    for (name, value) in [("value", value), ("currency", currency)] {
        if let Some(value) = value {
            found.insert(name.to_owned(), value);
        }
    }
    found
}

/// What every event has: page, session and engagement.
fn complete(document: &Document, properties: &Map<String, Value>, params: &mut Map<String, Value>) {
    let mut known = Map::new();
    fill(&mut known, document, PAGE);
    for (name, value) in known {
        params.entry(name).or_insert(value);
    }
    let told = |name: &str| properties.get(name).filter(|value| says_something(value)).cloned();
    let session = option(document, "sessionId").cloned().or_else(|| told("sessionId"));
    if let Some(session) = session {
        params.insert("session_id".to_owned(), session);
    } else if let Some(session) = pick(document, &["context.sessionId"]) {
        params.entry("session_id").or_insert_with(|| session.clone());
    }
    if let Some(number) = option(document, "sessionNumber").cloned().or_else(|| told("sessionNumber")) {
        params.insert("session_number".to_owned(), number);
    }
    let engagement = told("engagementTimeMsec").unwrap_or_else(|| json!(LEAST_ENGAGEMENT));
    params.entry("engagement_time_msec").or_insert(engagement);
}

/// Properties that Google has no own name for: flat, without those that are `used` already, whose names
/// are Google's own, or that say nothing.
pub(super) fn custom(mut properties: Map<String, Value>, used: &[&str]) -> Map<String, Value> {
    properties.retain(|name, _| !used.contains(&name.as_str()) && !SAID_ELSEWHERE.contains(&name.as_str()));
    let mut flat = flatten_lists(properties, "_");
    flat.retain(|name, value| is_param(name) && says_something(value));
    flat
}

/// The number that a value is, or says as text.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// A number also where it is sent as text; else the value as it is.
pub(super) fn numeric(value: &Value) -> Value {
    match (value, number(value)) {
        (Value::String(_), Some(number)) => whole(number),
        _ => value.clone(),
    }
}

/// Without decimals where there are none.
fn whole(number: f64) -> Value {
    match format!("{number}").parse::<i64>() {
        Ok(integer) => json!(integer),
        Err(_) => Number::from_f64(number).map_or(Value::Null, Value::Number),
    }
}
