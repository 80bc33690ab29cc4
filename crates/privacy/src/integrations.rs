//! An event's `integrations` object: which destinations the client wants it to reach.
//!
//! The rules are RudderStack's and Segment's: `{"All": false, "Amplitude": true}`. A destination's own entry
//! wins: `false` leaves it out, `true` or an object of options lets it in. Without one `All` decides, and
//! without that the event is wanted.

use std::collections::HashMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::Value;

/// Made once, since every event is searched.
static FIELD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""integrations""#));

/// What nearly every SDK sends.
const EVERYWHERE: [&[u8]; 2] = [br#":{"All":true}"#, b":{}"];

/// The names that a client may use for one destination or warehouse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntegrationNames(Vec<String>);

impl IntegrationNames {
    /// Its id and kind, and its names elsewhere. Only letters and digits count, in any case, so
    /// that `Customer.io` is the kind `customerio`.
    #[must_use]
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(names.into_iter().map(|name| letters(name.as_ref())).collect())
    }

    /// Whether some destination may have to do without an event of this body: it has such a field, or several,
    /// and not a single one that holds nobody back. It tells most events from the few that have to be walked.
    /// `escaped`: whether names may be written with escapes.
    pub(crate) fn may_forbid(body: &[u8], escaped: impl FnOnce() -> bool) -> bool {
        let mut found = FIELD.find_iter(body);
        let Some(at) = found.next() else { return escaped() };
        let rest = body.get(at + FIELD.needle().len()..).unwrap_or_default();
        found.next().is_some() || !EVERYWHERE.iter().any(|value| rest.starts_with(value)) || escaped()
    }

    /// Whether this `integrations` wants the event there. One that is no object says nothing: it does.
    pub(crate) fn want(&self, integrations: &[u8]) -> bool {
        let Ok(said) = serde_json::from_slice::<HashMap<String, Value>>(integrations) else { return true };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Consent, left_out_by};

    fn want(body: &str) -> bool {
        let names = IntegrationNames::new(["product-analytics", "amplitude", "Google Analytics 4 (GA4)"]);
        left_out_by(&Consent::default(), &names, body.as_bytes()).is_none()
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
            (r#"{"integrations":{"All":false,"Google Analytics 4 (GA4)":true}}"#, true),
            (r#"{"integrations":{"All":false,"google analytics 4 (ga4)":{"clientId":"7"}}}"#, true),
            (r#"{"integrations":{"Google Analytics 4 (GA4)":false}}"#, false),
            (r#"{"integrations":{"Braze":false}}"#, true),
            (r#"{"integrations":{"amplitude":true,"Amplitude":false}}"#, false),
            (r#"{ "integrations" : { "All" : false } }"#, false),
            // Not the event's own.
            (r#"{"properties":{"integrations":{"All":false}}}"#, true),
            (r#"{"properties":{"integrations":{"All":true}},"integrations":{"All":false}}"#, false),
            (r#"{"integrations":[1],"event":"x"}"#, true),
            (r#"{"\u0069ntegrations":{"All":false}}"#, false),
            (r#"{"integrations":{"All":true},"\u0069ntegrations":{"All":false}}"#, false),
            (r#"{"properties":{"integrations":{}},"\u0069ntegrations":{"All":false}}"#, false),
            (r#"{"integrations":{"All":true},"integrations":{"All":false}}"#, false),
            ("not json", true),
        ];
        for (body, expected) in cases {
            assert_eq!(want(body), expected, "{body}");
        }
    }
}
