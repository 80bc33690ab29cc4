//! Mixpanel: events (`track`, `page`, `screen`) through `/import`, user profiles (`identify`) through
//! `/engage`, group profiles (`group`) through `/groups`, and the merge of ids in projects that ask for it.
//! The shapes are those of <https://developer.mixpanel.com/reference/overview>.
//!
//! A row that is gone takes its profile away; events stay.

mod config;
mod event;
mod group;
mod map;
mod person;
mod profile;
mod rudder;
#[cfg(test)]
mod tests;

use millrace_connector::DestinationEntry;

use crate::http::{HttpEntry, Namesake};
pub use config::{IdentityMerge, Region, ServiceAccount, Settings};

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry::<Settings> {
        kind: "mixpanel",
        summary: "Events, user profiles and group profiles in Mixpanel",
        mapper: |settings| Ok(Box::new(map::Mixpanel { settings: settings.clone() })),
        profile: profile::profile,
        rudder: Some(Namesake {
            name: rudder::NAME,
            display_names: &["Mixpanel"],
            settings: rudder::translate,
        }),
    }
    .entry()
}
