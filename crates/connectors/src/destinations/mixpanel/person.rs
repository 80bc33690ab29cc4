//! Who somebody is, as Mixpanel's user profile.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::IdentityMerge;
use super::event::browser;
use super::map::Mixpanel;
use crate::destinations::shared::fields::{
    Line, USER_ID, at, fill, missing, pick, pick_text, says_something, set, take, traits,
};
use crate::destinations::shared::times;

/// Traits that Mixpanel knows by a name of its own: that name, and the trait's path.
const TRAITS: &[(&str, &str)] = &[
    ("$created", "createdAt"),
    ("$email", "email"),
    ("$first_name", "firstName"),
    ("$first_name", "firstname"),
    ("$first_name", "first_name"),
    ("$last_name", "lastName"),
    ("$last_name", "lastname"),
    ("$last_name", "last_name"),
    ("$name", "name"),
    ("$username", "username"),
    ("$phone", "phone"),
    ("$avatar", "avatar"),
    ("$country_code", "country"),
    ("$country_code", "address.country"),
    ("$city", "city"),
    ("$city", "address.city"),
    ("$region", "state"),
    ("$region", "address.state"),
    ("$region", "region"),
    ("$unsubscribed", "unsubscribed"),
];

/// Mixpanel's properties of where a person was last seen.
const SURROUNDINGS: &[Line] = &[
    ("$carrier", &["context.network.carrier"]),
    ("$manufacturer", &["context.device.manufacturer"]),
    ("$model", &["context.device.model"]),
    ("$screen_height", &["context.screen.height"]),
    ("$screen_width", &["context.screen.width"]),
    ("$wifi", &["context.network.wifi"]),
    ("$initial_referrer", &["context.page.initial_referrer"]),
    ("$initial_referring_domain", &["context.page.initial_referring_domain"]),
];

const ANDROID: &[Line] = &[
    ("$os", &["context.os.name"]),
    ("$android_model", &["context.device.model"]),
    ("$android_os_version", &["context.os.version"]),
    ("$android_manufacturer", &["context.device.manufacturer"]),
    ("$android_brand", &["context.device.manufacturer"]),
    ("$android_app_version", &["context.app.version"]),
    ("$android_app_version_code", &["context.app.build"]),
];

const IOS: &[Line] = &[
    ("$os", &["context.os.name"]),
    ("$ios_device_model", &["context.device.model"]),
    ("$ios_version", &["context.os.version"]),
    ("$ios_app_release", &["context.app.version"]),
    ("$ios_app_version", &["context.app.build"]),
];

/// The profile's changes, one request for each kind of change, and the merge of ids where that is asked for.
/// What is appended goes last: nothing that fails after it has it appended twice.
pub(super) fn requests(mixpanel: &Mixpanel, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
    let settings = &mixpanel.settings;
    let distinct_id = mixpanel.distinct_id(document)?;
    let token = settings.token.expose();
    let mut traits = traits(document);
    let change = |operation: &str, values: Map<String, Value>| {
        let update = json!({operation: values, "$token": token, "$distinct_id": distinct_id});
        (!values.is_empty()).then(|| mixpanel.engage(&update))
    };
    let mut requests = Vec::new();
    requests.extend(change("$set_once", set_apart(&mut traits, &settings.set_once, said)));
    requests.extend(change("$union", set_apart(&mut traits, &settings.union, as_list)));
    let append = change("$append", set_apart(&mut traits, &settings.append, said));
    let mut properties = named(traits, settings.legacy_person_names);
    fill(&mut properties, document, SURROUNDINGS);
    properties.extend(device(document));
    properties.extend(browser(document));
    let mut update = Map::new();
    update.insert("$set".to_owned(), Value::Object(properties));
    update.insert("$token".to_owned(), token.into());
    update.insert("$distinct_id".to_owned(), distinct_id.into());
    set(&mut update, "$ip", pick(document, &["context.ip", "request_ip"]).cloned());
    // Null: Mixpanel takes its own clock.
    update.insert("$time".to_owned(), times::happened(document).into());
    requests.push(mixpanel.engage(&Value::Object(update)));
    requests.extend(merge(mixpanel, document));
    requests.extend(append);
    Ok(requests)
}

/// Takes the profile away.
pub(super) fn delete(mixpanel: &Mixpanel, document: &Document) -> Result<HttpRequest, Reason> {
    let id = pick_text(document, USER_ID).ok_or_else(|| missing("userId"))?;
    let token = mixpanel.settings.token.expose();
    // An alias may by now be another person's.
    let update = json!({"$token": token, "$distinct_id": id, "$delete": "", "$ignore_alias": true});
    Ok(mixpanel.engage(&update))
}

/// Joins what the device did to the user. Projects with simplified merge do that by the events themselves.
fn merge(mixpanel: &Mixpanel, document: &Document) -> Option<HttpRequest> {
    if mixpanel.settings.identity_merge == IdentityMerge::Simplified {
        return None;
    }
    let user = pick_text(document, USER_ID)?;
    let device = pick_text(document, &["anonymousId"])?;
    let properties = json!({"$distinct_ids": [user, device], "token": mixpanel.settings.token.expose()});
    Some(mixpanel.import(&json!({"event": "$merge", "properties": properties})))
}

/// Takes those traits that have a value out of the rest, by the names that Mixpanel knows them by.
fn set_apart(traits: &mut Map<String, Value>, paths: &[String], shape: Shape) -> Map<String, Value> {
    let mut apart = Map::new();
    for path in paths {
        let said = at(traits, path).is_some_and(says_something);
        if !said {
            continue;
        }
        let known = TRAITS.iter().find(|(_, of)| of == path).map(|(name, _)| *name);
        set(&mut apart, known.unwrap_or(path), take(traits, path).and_then(shape));
    }
    apart
}

/// Makes of a trait what the kind of change takes.
type Shape = fn(Value) -> Option<Value>;

fn said(value: Value) -> Option<Value> {
    Some(value)
}

fn as_list(value: Value) -> Option<Value> {
    Some(if value.is_array() { value } else { json!([value]) })
}

/// The traits by Mixpanel's names; what Mixpanel does not know keeps its own.
fn named(mut traits: Map<String, Value>, legacy_person_names: bool) -> Map<String, Value> {
    let mut properties = Map::new();
    for (name, path) in TRAITS {
        let Some(value) = take(&mut traits, path).filter(says_something) else { continue };
        properties.entry((*name).to_owned()).or_insert(value);
    }
    // What is left of it has been said by its parts.
    traits.remove("address");
    if !properties.contains_key("$name")
        && let (Some(Value::String(first)), Some(Value::String(last))) =
            (properties.get("$first_name"), properties.get("$last_name"))
    {
        let name = format!("{first} {last}");
        properties.insert("$name".to_owned(), name.into());
    }
    if legacy_person_names {
        for (name, legacy) in [("$first_name", "$firstName"), ("$last_name", "$lastName")] {
            let value = properties.remove(name);
            set(&mut properties, legacy, value);
        }
    }
    properties.extend(traits);
    properties
}

/// The phone that pushes can go to.
fn device(document: &Document) -> Map<String, Value> {
    let mut device = Map::new();
    let system = pick_text(document, &["context.device.type", "context.os.name"]).unwrap_or_default();
    let (table, tokens) = match system.to_lowercase().as_str() {
        "android" => (ANDROID, "$android_devices"),
        "ios" | "ipados" | "watchos" | "tvos" => (IOS, "$ios_devices"),
        _ => return device,
    };
    if let Some(token) = pick(document, &["context.device.token"]) {
        device.insert(tokens.to_owned(), json!([token]));
    }
    fill(&mut device, document, table);
    device
}
