//! Google Analytics 4 by its Measurement Protocol: one event a request, since what stands beside the
//! events of a request is true of one person at one moment.

mod config;
mod items;
mod map;
mod names;
mod params;
mod profile;
mod rudder;
mod standard;
#[cfg(test)]
mod tests;
mod user;

pub use config::Settings;
pub(crate) use rudder::translate;

use millrace_connector::DestinationEntry;

use crate::http::{HttpEntry, Mapper, Namesake};

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry {
        kind: "ga4",
        summary: "Events in Google Analytics 4, by the Measurement Protocol",
        mapper,
        profile: profile::profile,
        rudder: Some(Namesake {
            name: "GA4",
            display_names: &["Google Analytics 4 (GA4)", "Google Analytics 4"],
            settings: translate,
        }),
    }
    .entry()
}

/// What makes the requests of these settings.
///
/// # Errors
/// What is wrong with the settings, and what to do.
pub(crate) fn mapper(settings: &Settings) -> Result<Box<dyn Mapper>, String> {
    Ok(Box::new(map::Analytics::new(settings.clone())?))
}
