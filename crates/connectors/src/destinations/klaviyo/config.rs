//! Klaviyo's settings.

use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Profiles, events and subscriptions in Klaviyo.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A private API key with write access to profiles, events, lists and subscriptions.
    pub private_api_key: Secret,
    /// The revision of Klaviyo's API. Choose an older one only to keep what a pipeline did before.
    #[serde(default)]
    pub revision: Revision,
    /// Who a profile is. With `email_or_phone` the user id is kept as the property `_id`, and an event
    /// without e-mail address and phone number is rejected.
    #[serde(default)]
    pub identify_by: IdentifyBy,
    /// Joins the names of nested traits and properties with dots: Klaviyo's segments see flat ones alone.
    #[serde(default)]
    pub flatten: bool,
    /// The list of subscriptions whose event names none (`traits.properties.listId`).
    #[serde(default)]
    pub list: Option<String>,
    /// The channels that a subscription is for, where the event does not say (`consent`).
    #[serde(default)]
    pub consent: Vec<Channel>,
}

/// A revision of the API that is spoken here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum Revision {
    /// The shapes from before profiles could be imported; Klaviyo no longer keeps it up. Profiles
    /// themselves are sent as in 2024-10-15, since the old way needs an answer first.
    #[serde(rename = "2023-02-22")]
    V2023,
    /// Leaving a list says nothing about the channels. Retired by Klaviyo two years after its release.
    #[serde(rename = "2024-10-15")]
    V2024,
    /// Leaving a list names the channels.
    #[default]
    #[serde(rename = "2026-04-15")]
    V2026,
}

impl Revision {
    /// As the header `revision` says it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V2023 => "2023-02-22",
            Self::V2024 => "2024-10-15",
            Self::V2026 => "2026-04-15",
        }
    }
}

/// What tells profiles apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentifyBy {
    /// The user id, as Klaviyo's `external_id`.
    #[default]
    UserId,
    /// The e-mail address or the phone number.
    EmailOrPhone,
}

/// A way to write to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// E-mail.
    Email,
    /// Text messages.
    Sms,
}
