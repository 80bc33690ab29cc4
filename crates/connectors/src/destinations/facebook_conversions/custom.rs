//! An event's properties as Meta gets them: without those that tell who somebody is.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value};

use super::config::Settings;
use crate::destinations::shared::fields::{object, pick, text};
use crate::destinations::shared::hashing::sha256;

/// These stand elsewhere in an event of Meta's.
const ELSEWHERE: [&str; 3] = ["opt_out", "event_id", "action_source"];

/// These tell who somebody is.
const PERSONAL: [&str; 15] = [
    "email",
    "firstName",
    "lastName",
    "firstname",
    "lastname",
    "first_name",
    "last_name",
    "gender",
    "city",
    "country",
    "phone",
    "state",
    "zip",
    "postalCode",
    "birthday",
];

/// The properties that may be told. `hashed`: the client has hashed what is personal itself.
pub(super) fn properties(document: &Document, settings: &Settings, hashed: bool) -> Map<String, Value> {
    let listed = |list: &[String], name: &str| list.iter().any(|one| one == name);
    let mut told = Map::new();
    for (name, value) in object(document, "properties") {
        let personal = PERSONAL.contains(&name.as_str()) && !listed(&settings.keep_properties, &name);
        if value.is_null() || personal || ELSEWHERE.contains(&name.as_str()) {
            continue;
        }
        let value = match () {
            // First: what a client says of its event opens nothing that the settings close.
            () if listed(&settings.drop_properties, &name) => continue,
            () if hashed => value,
            () if listed(&settings.hash_properties, &name) => {
                sha256(&text(&value).unwrap_or_else(|| value.to_string())).into()
            }
            () => value,
        };
        told.insert(name, value);
    }
    told
}

/// Where it stands what an event is worth.
const WORTH: [&str; 3] = ["properties.value", "properties.revenue", "properties.total"];

/// Adds what the event is worth, as a number, and in which currency: dollars where it does not say.
///
/// # Errors
/// It is no number.
pub(super) fn worth(document: &Document, custom: &mut Map<String, Value>) -> Result<(), Reason> {
    let Some(path) = WORTH.iter().find(|path| pick(document, &[path]).is_some()) else { return Ok(()) };
    let said = pick(document, &[path]);
    let number = match said {
        Some(Value::String(text)) => {
            text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        Some(Value::Number(number)) => Some(Value::Number(number.clone())),
        _ => None,
    };
    let number = number.ok_or_else(|| Reason::new("invalid_field", format!("{path} is not a number")))?;
    custom.insert("value".to_owned(), number);
    custom.entry("currency").or_insert_with(|| "USD".into());
    Ok(())
}
