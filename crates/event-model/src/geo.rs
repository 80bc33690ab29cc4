//! Where a client is, as far as its address tells.

use serde::{Deserialize, Serialize};

/// The place of a client, in the names of RudderStack's `context.geo`. What is not known, or not kept by the
/// source's privacy policy, is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geo {
    /// The address that was looked up, after the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The city's name in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// The country: two letters of ISO 3166.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The name of the largest part of the country, such as a state, in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal: Option<String>,
    /// Latitude and longitude in degrees: `51.750000,-1.250000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The time zone's name: `Europe/London`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

impl Geo {
    /// Compact JSON: the form of the header.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Text under fixed names: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}
