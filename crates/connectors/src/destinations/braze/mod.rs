//! Braze: attributes (`identify`, and the traits of all others), events and purchases through
//! `/users/track`, subscription groups or group attributes (`group`), merges (`alias`). The shapes are
//! those of <https://www.braze.com/docs/api/home>.
//!
//! A row that is gone deletes its user there, with all that Braze knows of them.

mod attributes;
mod config;
mod events;
mod map;
mod profile;
mod purchases;
mod rudder;
mod shop;
#[cfg(test)]
mod tests;

use millrace_connector::DestinationEntry;

use crate::http::{HttpEntry, Namesake};
pub use config::{Groups, Instance, Settings};

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry::<Settings> {
        kind: "braze",
        summary: "Users, events, purchases and subscriptions in Braze",
        mapper: |settings| Ok(Box::new(map::Braze { settings: settings.clone() })),
        profile: profile::profile,
        rudder: Some(Namesake { name: rudder::NAME, display_names: &["Braze"], settings: rudder::translate }),
    }
    .entry()
}
