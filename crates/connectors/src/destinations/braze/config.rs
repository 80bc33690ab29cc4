//! Braze's settings.

use std::fmt;

use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Users, events, purchases and subscriptions in Braze.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A REST API key that may call `users.track`, `users.identify`, `users.merge`, `users.delete` and
    /// `subscription.status.set`.
    pub api_key: Secret,
    /// The instance, as the dashboard's address names it: `us-01`, `eu-02`, `au-01` and so on.
    pub instance: Instance,
    /// What the alias of somebody who is known by a device alone is labelled.
    #[serde(default = "alias_label")]
    pub alias_label: String,
    /// What a `group` does.
    #[serde(default)]
    pub groups: Groups,
    /// What stands before the group's id in the attribute that `groups: attribute` sets.
    #[serde(default = "group_prefix")]
    pub group_prefix: String,
    /// Sends a shop's events as the ones that Braze recommends (`ecommerce.order_placed` and so on), in
    /// place of custom events and purchases.
    #[serde(default)]
    pub recommended_events: bool,
    /// Keeps what else is known about a product in its purchase.
    #[serde(default)]
    pub purchase_properties: bool,
    /// Reads a trait of the form `{"add": […], "update": […], "remove": […]}` as changes to a list of
    /// objects, whose entries name their key in `identifier`.
    #[serde(default)]
    pub nested_arrays: bool,
    /// The partner's name in the requests, where Braze has given you one.
    #[serde(default)]
    pub partner: Option<String>,
}

fn alias_label() -> String {
    "anonymous_id".to_owned()
}

fn group_prefix() -> String {
    "group_".to_owned()
}

/// What a `group` does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// It sets an attribute of the user to true: the prefix and the group's id.
    #[default]
    Attribute,
    /// The group is a subscription group, and `traits.subscriptionState` says `subscribed` or
    /// `unsubscribed`.
    Subscription,
}

/// A cluster of Braze's.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Instance {
    host: String,
}

impl Instance {
    /// The host of its REST API.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

impl TryFrom<String> for Instance {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        let parts = name.split_once('-').filter(|(region, number)| {
            region.len() == 2 && number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit())
        });
        let host = match parts {
            Some(("us", number)) => format!("rest.iad-{number}.braze.com"),
            Some(("eu", number)) => format!("rest.fra-{number}.braze.eu"),
            Some((region @ ("au" | "id" | "jp" | "kr"), number)) => {
                format!("rest.{region}-{number}.braze.com")
            }
            _ => return Err("instance: expected one of Braze's, such as us-01 or eu-02".to_owned()),
        };
        Ok(Self { host })
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}
