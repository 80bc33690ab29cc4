//! The settings of Facebook's Conversions API.

use std::collections::BTreeMap;

use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Events for Meta's Conversions API.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The dataset (once called pixel) that takes the events: its number, from Events Manager.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub dataset_id: String,
    /// The dataset's access token: Events Manager, Settings, Conversions API.
    pub access_token: Secret,
    /// Where events happen that do not say so themselves in `properties.action_source`.
    #[serde(default)]
    pub action_source: ActionSource,
    /// Shows the events under Test events in place of counting them.
    #[serde(default)]
    pub test_event_code: Option<String>,
    /// Passes on `context.dataProcessingOptions`, a list of options, country and state, for people whose
    /// data Meta may use only in part.
    #[serde(default)]
    pub limited_data_use: bool,
    /// Sends the hash of the person's id (`external_id`).
    #[serde(default = "yes")]
    pub external_id: bool,
    /// Events that are another of Meta's, by their names: `{"Trip Booked": "Purchase"}`.
    #[serde(default)]
    pub events: BTreeMap<String, String>,
    /// Meta's content type of products, by their category: `{"flights": "flight"}`. Else they are
    /// `product`.
    #[serde(default)]
    pub content_types: BTreeMap<String, String>,
    /// Properties that are passed on as they stand although they tell who somebody is: those that would be
    /// left out are `email`, `phone`, `firstName`, `lastName` and others like them.
    #[serde(default)]
    pub keep_properties: Vec<String>,
    /// Properties that are left out.
    #[serde(default)]
    pub drop_properties: Vec<String>,
    /// Properties of which the SHA-256 hash is sent.
    #[serde(default)]
    pub hash_properties: Vec<String>,
}

fn yes() -> bool {
    true
}

/// Where an event happened, in Meta's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionSource {
    /// On a website.
    #[default]
    Website,
    /// In a mobile app.
    App,
    /// By e-mail.
    Email,
    /// On the phone.
    PhoneCall,
    /// In a chat.
    Chat,
    /// In a shop; such events may be 62 days old, all others 7.
    PhysicalStore,
    /// Without a person's doing, such as a renewal.
    SystemGenerated,
    /// In Messenger, Instagram or WhatsApp.
    BusinessMessaging,
    /// Elsewhere.
    Other,
}

impl ActionSource {
    /// All, by Meta's names.
    const NAMES: [(&str, Self); 9] = [
        ("website", Self::Website),
        ("app", Self::App),
        ("email", Self::Email),
        ("phone_call", Self::PhoneCall),
        ("chat", Self::Chat),
        ("physical_store", Self::PhysicalStore),
        ("system_generated", Self::SystemGenerated),
        ("business_messaging", Self::BusinessMessaging),
        ("other", Self::Other),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, source)| *source == self).map_or("other", |(name, _)| name)
    }
}
