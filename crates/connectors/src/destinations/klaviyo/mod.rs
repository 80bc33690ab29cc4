//! Klaviyo: profiles (`identify`), events (`track`, `screen`) and list subscriptions (`group`, and
//! `identify` with `traits.properties.subscribe`). The shapes are those of Klaviyo's API,
//! <https://developers.klaviyo.com/en/reference/api_overview>.
//!
//! Rows that are gone are not deleted: Klaviyo has a privacy erasure alone, which also forgets consent.

mod config;
mod legacy;
mod map;
mod person;
mod profile;
mod rudder;
mod subscription;
#[cfg(test)]
mod tests;

use millrace_connector::DestinationEntry;

use crate::http::{HttpEntry, Namesake};
pub use config::{Channel, IdentifyBy, Revision, Settings};

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry::<Settings> {
        kind: "klaviyo",
        summary: "Profiles, events and list subscriptions in Klaviyo",
        mapper: |settings| Ok(Box::new(map::Klaviyo { settings: settings.clone() })),
        profile: profile::profile,
        rudder: Some(Namesake {
            name: rudder::NAME,
            display_names: &["Klaviyo"],
            settings: rudder::translate,
        }),
    }
    .entry()
}
