//! Mixpanel's settings.

use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Events, user profiles and group profiles in Mixpanel.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The project's token.
    pub token: Secret,
    /// A service account that imports the events; without one the token does it.
    #[serde(default)]
    pub service_account: Option<ServiceAccount>,
    /// Where the project's data lives.
    #[serde(default)]
    pub region: Region,
    /// Whether Mixpanel checks events and changes of profiles and says which it refused. Without it, what is
    /// refused vanishes there without a word.
    #[serde(default = "yes")]
    pub strict: bool,
    /// How Mixpanel joins what somebody did before and after a login: the project's setting.
    #[serde(default)]
    pub identity_merge: IdentityMerge,
    /// Writes names of people as `$firstName` and `$lastName`, which is what RudderStack does if not told
    /// otherwise; Mixpanel's own names are `$first_name` and `$last_name`.
    #[serde(default)]
    pub legacy_person_names: bool,
    /// Puts the person's traits (`context.traits`) into each event, too.
    #[serde(default)]
    pub traits_in_events: bool,
    /// What a page view is called, with what the event says in braces:
    /// `Viewed {{ category }} {{ name }} page`.
    #[serde(default = "page_event")]
    pub page_event: String,
    /// What a screen view is called, in the same way.
    #[serde(default = "screen_event")]
    pub screen_event: String,
    /// Traits of a `group` that are group keys in Mixpanel, such as `company`.
    #[serde(default)]
    pub group_keys: Vec<String>,
    /// Traits that are written once and never changed, as paths.
    #[serde(default)]
    pub set_once: Vec<String>,
    /// Traits whose values are added to a list that has each once, as paths.
    #[serde(default)]
    pub union: Vec<String>,
    /// Traits whose values are added to a list, as paths.
    #[serde(default)]
    pub append: Vec<String>,
    /// Numbers among an event's properties that are added up in the profile.
    #[serde(default)]
    pub increment: Vec<String>,
}

fn yes() -> bool {
    true
}

fn page_event() -> String {
    "Loaded a Page".to_owned()
}

fn screen_event() -> String {
    "Loaded a Screen".to_owned()
}

/// Who imports.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// The account's name.
    pub username: String,
    /// Its secret.
    pub secret: Secret,
    /// The id of the project.
    pub project_id: String,
}

/// Where a project's data lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// The United States.
    #[default]
    Us,
    /// The European Union.
    Eu,
    /// India.
    In,
}

impl Region {
    /// The host of the ingestion API.
    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Us => "api.mixpanel.com",
            Self::Eu => "api-eu.mixpanel.com",
            Self::In => "api-in.mixpanel.com",
        }
    }
}

/// How Mixpanel joins a device's and a user's ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityMerge {
    /// By `$device_id` and `$user_id` in the events: projects made since 2023.
    #[default]
    Simplified,
    /// By `$merge` and `$create_alias`: older projects.
    Original,
}
