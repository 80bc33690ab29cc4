//! The settings of Customer.io.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// People, events, devices and objects of Customer.io.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The workspace's Site ID: Settings, API credentials, Tracking API keys.
    pub site_id: String,
    /// The Tracking API key beside it.
    pub api_key: Secret,
    /// Where the account is: `us` or `eu`.
    #[serde(default)]
    pub region: Region,
    /// The event that registers a device, besides `Application Installed` and `Application Opened`.
    #[serde(default)]
    pub device_token_event: Option<String>,
    /// Sends up to 100 operations a call over the `v2` API, which is many times faster. Without it each
    /// item is a call of the `v1` API, as RudderStack makes them: at most 100 items a second.
    #[serde(default)]
    pub batch: bool,
}

/// Where an account of Customer.io is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// In the United States.
    #[default]
    Us,
    /// In the European Union.
    Eu,
}

impl Region {
    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Us => "track.customer.io",
            Self::Eu => "track-eu.customer.io",
        }
    }

    /// Scheme and host.
    pub(super) fn origin(self) -> String {
        format!("https://{}", self.host())
    }
}

impl Settings {
    /// The value of the header that says who calls.
    pub(super) fn authorization(&self) -> String {
        let credentials = format!("{}:{}", self.site_id, self.api_key.expose());
        format!("Basic {}", STANDARD.encode(credentials))
    }
}
