//! The settings. Templates are text in which `{{ … }}` names what the event says.

use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Messages in Slack.
///
/// In templates stand `{{ name }}` (the user's name, e-mail address or id), `{{ traits }}` (those of
/// `traits`, each as `name: value`), `{{ event }}`, `{{ properties.plan }}` and the like; what is missing is
/// left out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The address of the incoming webhook, from the Slack app's settings.
    pub webhook_url: Secret,
    /// The message of an identify.
    #[serde(default = "identify_template")]
    pub identify_template: String,
    /// Messages of track events; the first that fits counts, and `{{ name }} did {{ event }}` where none does.
    #[serde(default)]
    pub events: Vec<EventTemplate>,
    /// Other webhooks for some events; the first that fits counts.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// The traits that may stand in a message; without any, all of them.
    #[serde(default)]
    pub traits: Vec<String>,
    /// The name that the message is shown under, where the webhook lets it be chosen.
    #[serde(default)]
    pub username: Option<String>,
    /// The picture beside it.
    #[serde(default)]
    pub icon_url: Option<String>,
}

fn identify_template() -> String {
    "Identified {{ name }} {{ traits }}".to_owned()
}

/// The message of some events.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTemplate {
    /// The event's name.
    pub event: String,
    /// The name is a regular expression.
    #[serde(default)]
    pub regex: bool,
    /// The message.
    pub template: String,
}

/// The channel of some events.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The event's name.
    pub event: String,
    /// The name is a regular expression.
    #[serde(default)]
    pub regex: bool,
    /// The address of the channel's own incoming webhook.
    #[serde(default)]
    pub webhook_url: Option<Secret>,
    /// The channel's name, for old webhooks that reach several.
    #[serde(default)]
    pub channel: Option<String>,
}
