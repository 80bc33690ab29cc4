//! What RudderStack's users call a kind of destination or warehouse.

use std::borrow::Cow;

use serde_json::Value;

/// A display name of RudderStack's: what its SDKs name a destination by in the `integrations` object of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName {
    /// As RudderStack writes it, such as `Customer IO`.
    pub name: Cow<'static, str>,
    /// The schemes of the setting `url` under which the kind is so called, where it is one of several of
    /// RudderStack's; empty: always.
    pub schemes: &'static [&'static str],
}

impl DisplayName {
    /// The name of a kind that is one of RudderStack's.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), schemes: &[] }
    }

    /// The name of what lies at a `url` of these schemes.
    #[must_use]
    pub const fn at(name: &'static str, schemes: &'static [&'static str]) -> Self {
        Self { name: Cow::Borrowed(name), schemes }
    }

    /// Whether an instance with these settings is so called.
    #[must_use]
    pub fn is_of(&self, settings: &Value) -> bool {
        let url = settings.get("url").and_then(Value::as_str).unwrap_or_default();
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        self.schemes.is_empty() || self.schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme))
    }
}

impl From<String> for DisplayName {
    fn from(name: String) -> Self {
        Self { name: Cow::Owned(name), schemes: &[] }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_depend_on_where_the_url_leads() {
        let everywhere = DisplayName::new("Webhook");
        let in_s3 = DisplayName::at("Amazon S3", &["s3", "s3a"]);
        for (settings, expected) in [
            (json!({"url": "s3://bucket/raw"}), true),
            (json!({"url": "S3A://bucket"}), true),
            (json!({"url": "gs://bucket"}), false),
            (json!({"url": "./data"}), false),
            (json!({"url": 3}), false),
            (json!({}), false),
        ] {
            assert!(everywhere.is_of(&settings), "{settings}");
            assert_eq!(in_s3.is_of(&settings), expected, "{settings}");
        }
    }
}
