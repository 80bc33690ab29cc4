//! An event's `integrations` object: which destinations the client wants it to reach.
//!
//! The rules are RudderStack's and Segment's: `{"All": false, "Amplitude": true}`. A destination's own entry
//! wins: `false` leaves it out, `true` or an object of options lets it in. Without one `All` decides, and
//! without that the event is wanted.

use std::collections::HashMap;

use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;

const FIELD: &[u8] = br#""integrations""#;

/// What nearly every SDK sends.
const EVERYWHERE: [&[u8]; 2] = [br#":{"All":true}"#, b":{}"];

/// The names that a client may use for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationNames(Vec<String>);

impl IntegrationNames {
    /// The destination's id and kind, and its names elsewhere. Only letters and digits count, in any case, so
    /// that `Customer.io` is the kind `customerio`.
    #[must_use]
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(names.into_iter().map(|name| letters(name.as_ref())).collect())
    }

    /// Whether an event of this body is for the destination. A body that is no JSON object, or whose
    /// `integrations` is no object, says nothing about it: it is.
    #[must_use]
    pub fn want(&self, body: &[u8]) -> bool {
        if says_everywhere(body) {
            return true;
        }
        let Some(said) = integrations(body) else { return true };
        let own = said.iter().filter(|(name, _)| self.0.contains(&letters(name)));
        let mut own = own.map(|(_, value)| lets_in(value)).peekable();
        if own.peek().is_some() {
            // Two spellings that disagree: the client has said no.
            return own.all(|wanted| wanted);
        }
        said.get("All").is_none_or(lets_in)
    }
}

fn letters(name: &str) -> String {
    name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn lets_in(value: &Value) -> bool {
    *value != Value::Bool(false)
}

/// Whether there is no such field, or a single one that holds nobody back, wherever it stands. It tells
/// most events from the few that have to be parsed.
fn says_everywhere(body: &[u8]) -> bool {
    let mut found = memmem::find_iter(body, FIELD);
    // A name may be written with escapes.
    let Some(at) = found.next() else { return memmem::find(body, b"\\u").is_none() };
    let rest = body.get(at + FIELD.len()..).unwrap_or_default();
    found.next().is_none() && EVERYWHERE.iter().any(|value| rest.starts_with(value))
}

/// Of a name that stands twice the last value counts, as for JSON readers.
fn integrations(body: &[u8]) -> Option<HashMap<String, Value>> {
    let event: HashMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    serde_json::from_str(event.get("integrations")?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(body: &str) -> bool {
        IntegrationNames::new(["product-analytics", "amplitude", "Amplitude"]).want(body.as_bytes())
    }

    #[test]
    fn the_destinations_own_entry_wins_over_all() {
        let cases = [
            (r#"{}"#, true),
            (r#"{"integrations":{"All":true}}"#, true),
            (r#"{"integrations":{}}"#, true),
            (r#"{"integrations":null}"#, true),
            (r#"{"integrations":{"All":false}}"#, false),
            (r#"{"integrations":{"All":true,"Amplitude":false}}"#, false),
            (r#"{"integrations":{"All":false,"Amplitude":true}}"#, true),
            (r#"{"integrations":{"All":false,"AMPLITUDE":{"session_id":7}}}"#, true),
            (r#"{"integrations":{"All":false,"product-analytics":true}}"#, true),
            (r#"{"integrations":{"All":false,"Product Analytics":true}}"#, true),
            (r#"{"integrations":{"Braze":false}}"#, true),
            (r#"{"integrations":{"amplitude":true,"Amplitude":false}}"#, false),
            (r#"{ "integrations" : { "All" : false } }"#, false),
            // Not the event's own.
            (r#"{"properties":{"integrations":{"All":false}}}"#, true),
            (r#"{"properties":{"integrations":{"All":true}},"integrations":{"All":false}}"#, false),
            (r#"{"integrations":[1],"event":"x"}"#, true),
            (r#"{"\u0069ntegrations":{"All":false}}"#, false),
            (r#"{"integrations":{"All":true},"integrations":{"All":false}}"#, false),
            ("not json", true),
        ];
        for (body, expected) in cases {
            assert_eq!(want(body), expected, "{body}");
        }
    }
}
