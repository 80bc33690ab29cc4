//! Amplitude: events, user properties and groups by the HTTP API V2, group properties by
//! `groupidentify`, aliases by `usermap`.

mod config;
mod event;
mod map;
mod profile;
mod properties;
mod revenue;
mod rudder;
#[cfg(test)]
mod tests;

pub use config::{Region, Settings};
pub(crate) use rudder::translate;

use millrace_connector::DestinationEntry;

use crate::http::{HttpEntry, Mapper, Namesake};

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry {
        kind: "amplitude",
        summary: "Events, user properties and groups in Amplitude",
        mapper,
        profile: profile::profile,
        rudder: Some(Namesake { name: "AM", display_names: &["Amplitude"], settings: translate }),
    }
    .entry()
}

/// What makes the requests of these settings.
///
/// # Errors
/// What is wrong with the settings, and what to do.
pub(crate) fn mapper(settings: &Settings) -> Result<Box<dyn Mapper>, String> {
    if settings.delete_users && settings.secret_key.is_none() {
        return Err("delete_users needs secret_key, the project's secret key".to_owned());
    }
    Ok(Box::new(map::Amplitude { settings: settings.clone() }))
}
