//! What a user has consented to, as consent managers write it into events, and which destinations that
//! leaves out.
//!
//! RudderStack's SDKs write `context.consentManagement`: `{"provider": "oneTrust", "deniedConsentIds":
//! ["C0004"], "resolutionStrategy": "and"}`; OneTrust, Ketch, iubenda and hand-made banners all end there. An
//! event without denied ids keeps nobody out.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;

/// Made once, since every event is searched.
static FIELD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"consentManagement"));

/// The categories that a destination or warehouse needs, by consent manager. Empty: it needs none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<ConsentRule>")]
pub struct Consent(Vec<ConsentRule>);

/// What a destination needs of one consent manager.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentRule {
    /// `oneTrust`, `ketch`, `iubenda`, `custom` or what else events name; letter case means nothing.
    /// Without it the rule is for those that no other rule names.
    #[serde(default)]
    pub provider: Option<String>,
    /// The categories or purposes, such as `C0004`.
    pub categories: Vec<String>,
    /// Whether the user has to consent to all of them or to any. By default the event's
    /// `resolutionStrategy` says so, and without that it is all.
    #[serde(default)]
    pub require: Option<Require>,
}

/// How many of the categories are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// One that is denied keeps the event back.
    All,
    /// It is kept back when all are denied.
    Any,
}

/// A rule that could never do anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// It names no category.
    #[error("a consent rule names no categories: give those that the destination needs, or remove the rule")]
    NoCategories,
    /// Two are for the same events.
    #[error("two consent rules are for {0}: put their categories into one")]
    Twice(String),
}

impl TryFrom<Vec<ConsentRule>> for Consent {
    type Error = ConsentError;

    fn try_from(rules: Vec<ConsentRule>) -> Result<Self, ConsentError> {
        Self::new(rules)
    }
}

impl Consent {
    /// Checks the rules.
    ///
    /// # Errors
    /// See [`ConsentError`].
    pub fn new(rules: Vec<ConsentRule>) -> Result<Self, ConsentError> {
        for (at, rule) in rules.iter().enumerate() {
            if rule.categories.is_empty() {
                return Err(ConsentError::NoCategories);
            }
            if rules.iter().take(at).any(|earlier| same(earlier.provider(), rule.provider())) {
                let whose =
                    rule.provider.as_ref().map_or("every provider".to_owned(), |name| format!("{name:?}"));
                return Err(ConsentError::Twice(whose));
            }
        }
        Ok(Self(rules))
    }

    /// Whether something is needed that an event of this body may deny. Most say nothing of consent, and need
    /// not be walked. `escaped`: whether names may be written with escapes.
    pub(crate) fn may_forbid(&self, body: &[u8], escaped: impl FnOnce() -> bool) -> bool {
        !self.0.is_empty() && (FIELD.find(body).is_some() || escaped())
    }

    /// Whether this `context.consentManagement` lets the event go there.
    pub(crate) fn permits(&self, management: &[u8]) -> bool {
        let Ok(said) = serde_json::from_slice::<Value>(management) else { return true };
        let said = Said(&said);
        let Some(rule) = self.rule(said.provider()) else { return true };
        let denied = |category: &String| said.has_denied(category);
        match rule.require.or(said.strategy()) {
            Some(Require::Any) => !rule.categories.iter().all(denied),
            Some(Require::All) | None => !rule.categories.iter().any(denied),
        }
    }

    /// The rule of the event's provider, else the one for all the others.
    fn rule(&self, provider: &str) -> Option<&ConsentRule> {
        let named = self.0.iter().find(|rule| rule.provider.is_some() && same(rule.provider(), provider));
        named.or_else(|| self.0.iter().find(|rule| rule.provider.is_none()))
    }
}

impl ConsentRule {
    fn provider(&self) -> &str {
        self.provider.as_deref().unwrap_or_default()
    }
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// What an event says. A part that is of another type than it should be says nothing, and the rest counts.
struct Said<'e>(&'e Value);

impl Said<'_> {
    fn provider(&self) -> &str {
        self.0["provider"].as_str().unwrap_or_default()
    }

    fn has_denied(&self, category: &str) -> bool {
        let denied = self.0["deniedConsentIds"].as_array().map(Vec::as_slice).unwrap_or_default();
        denied.iter().any(|id| id.as_str() == Some(category))
    }

    fn strategy(&self) -> Option<Require> {
        match self.0["resolutionStrategy"].as_str()?.to_ascii_lowercase().as_str() {
            "or" | "any" => Some(Require::Any),
            "and" | "all" => Some(Require::All),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{IntegrationNames, left_out_by};

    fn consent(rules: serde_json::Value) -> Consent {
        Consent::new(serde_json::from_value(rules).unwrap()).unwrap()
    }

    fn permits(rules: &Consent, body: &[u8]) -> bool {
        left_out_by(rules, &IntegrationNames::default(), body).is_none()
    }

    /// An event whose user has denied A and B.
    fn event(provider: &str, strategy: &str) -> Vec<u8> {
        let said = json!({"provider": provider, "allowedConsentIds": ["C"], "deniedConsentIds": ["A", "B"],
            "resolutionStrategy": strategy});
        json!({"type": "track", "context": {"consentManagement": said}}).to_string().into_bytes()
    }

    #[test]
    fn a_denied_category_keeps_a_destination_out() {
        let cases = [
            (json!([{"categories": ["A"]}]), "and", false),
            (json!([{"categories": ["C"]}]), "and", true),
            (json!([{"categories": ["A", "C"]}]), "and", false),
            (json!([{"categories": ["A", "C"]}]), "or", true),
            (json!([{"categories": ["A", "C"]}]), "any", true),
            (json!([{"categories": ["A", "B"]}]), "or", false),
            (json!([{"categories": ["A", "C"]}]), "", false),
            (json!([{"categories": ["A", "C"], "require": "any"}]), "and", true),
            (json!([{"categories": ["A", "C"], "require": "all"}]), "or", false),
            (json!([]), "and", true),
        ];
        for (rules, strategy, expected) in cases {
            assert_eq!(
                permits(&consent(rules.clone()), &event("oneTrust", strategy)),
                expected,
                "{rules} {strategy}"
            );
        }
    }

    #[test]
    fn a_rule_is_for_its_provider_and_one_without_for_the_others() {
        let rules = consent(json!([{"provider": "OneTrust", "categories": ["C"]}, {"categories": ["A"]}]));
        assert!(permits(&rules, &event("oneTrust", "and")));
        assert!(!permits(&rules, &event("ketch", "and")));
        let rules = consent(json!([{"provider": "ketch", "categories": ["A"]}]));
        assert!(permits(&rules, &event("oneTrust", "and")), "nothing is asked of this provider");
    }

    #[test]
    fn an_event_that_says_nothing_of_consent_may_go() {
        let rules = consent(json!([{"categories": ["A"]}]));
        for body in [
            json!({"context": {}}),
            json!({"context": {"consentManagement": null}}),
            json!({"context": {"consentManagement": {"deniedConsentIds": []}}}),
            json!({"context": {"consentManagement": {"deniedConsentIds": null}}}),
            json!({"context": {"consentManagement": "none"}}),
            json!({"properties": {"consentManagement": {"deniedConsentIds": ["A"]}}}),
        ] {
            assert!(permits(&rules, body.to_string().as_bytes()), "{body}");
        }
        assert!(permits(&rules, b"not json"));
    }

    #[test]
    fn what_is_malformed_says_nothing_and_the_rest_counts() {
        let rules = consent(json!([{"categories": ["A"]}]));
        for said in [
            json!({"provider": 7, "deniedConsentIds": ["A"]}),
            json!({"deniedConsentIds": [5, "A"], "resolutionStrategy": []}),
        ] {
            let body = json!({"context": {"consentManagement": said}}).to_string();
            assert!(!permits(&rules, body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn of_a_name_that_stands_twice_the_last_value_counts() {
        let rules = consent(json!([{"categories": ["A"]}]));
        let denied = r#""context":{"consentManagement":{"deniedConsentIds":["A"]}}"#;
        assert!(!permits(&rules, format!(r#"{{"context":{{}},{denied}}}"#).as_bytes()));
        assert!(permits(&rules, format!(r#"{{{denied},"context":{{}}}}"#).as_bytes()));
    }

    #[test]
    fn rules_that_do_nothing_are_refused() {
        let new = |rules| Consent::new(serde_json::from_value(rules).unwrap());
        assert_eq!(new(json!([{"categories": []}])), Err(ConsentError::NoCategories));
        let twice =
            json!([{"provider": "ketch", "categories": ["A"]}, {"provider": "Ketch", "categories": ["B"]}]);
        assert!(new(twice).unwrap_err().to_string().contains("Ketch"));
    }
}
