//! The settings of Amplitude.

use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Events, user properties and groups of Amplitude, by its HTTP API V2.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The project's API key, from its settings.
    pub api_key: Secret,
    /// The project's secret key. Only `delete_users` needs it.
    #[serde(default)]
    pub secret_key: Option<Secret>,
    /// Where the project's data lies.
    #[serde(default)]
    pub region: Region,
    /// Takes the `products` of an event with revenue out of it and sends each as an event
    /// `Product Purchased` of its own.
    #[serde(default)]
    pub split_products: bool,
    /// Counts the revenue with each product, by an event `Product Purchased` for each, rather than with
    /// the event that has the products.
    #[serde(default)]
    pub revenue_per_product: bool,
    /// Traits (paths) whose number an identify adds to the one that is there.
    #[serde(default)]
    pub add: Vec<String>,
    /// Traits (paths) that an identify sets only where the user has none yet.
    #[serde(default)]
    pub set_once: Vec<String>,
    /// Traits (paths) that an identify appends to a list.
    #[serde(default)]
    pub append: Vec<String>,
    /// Traits (paths) that an identify puts before a list.
    #[serde(default)]
    pub prepend: Vec<String>,
    /// The trait of a group event that holds the type of the group, such as `company`.
    #[serde(default)]
    pub group_type_trait: Option<String>,
    /// The trait of a group event that holds the group's name.
    #[serde(default)]
    pub group_value_trait: Option<String>,
    /// What the event of a page is called, such as `{{ category }}: {{ name }}`: paths of the event stand
    /// in braces. Without it `Viewed NAME Page`.
    #[serde(default)]
    pub page_event: Option<String>,
    /// What the event of a screen is called, as `page_event`. Without it `Viewed NAME Screen`.
    #[serde(default)]
    pub screen_event: Option<String>,
    /// Takes the anonymous id for the device id also where the event names a device.
    #[serde(default)]
    pub anonymous_id_as_device_id: bool,
    /// Takes a mobile device's brand from `context.device.brand`. Without it the manufacturer stands for
    /// the brand.
    #[serde(default)]
    pub own_device_brand: bool,
    /// Deletes the user with all of their events when reverse ETL finds their row gone. It cannot be
    /// undone. Without it such changes are rejected.
    #[serde(default)]
    pub delete_users: bool,
}

/// Amplitude's data residencies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// The United States.
    #[default]
    Us,
    /// The European Union.
    Eu,
}

impl Region {
    /// Where events, groups and aliases are sent to.
    pub(super) fn api(self) -> &'static str {
        match self {
            Self::Us => "https://api2.amplitude.com",
            Self::Eu => "https://api.eu.amplitude.com",
        }
    }

    /// Where users are deleted.
    pub(super) fn analytics(self) -> &'static str {
        match self {
            Self::Us => "https://amplitude.com",
            Self::Eu => "https://analytics.eu.amplitude.com",
        }
    }
}
