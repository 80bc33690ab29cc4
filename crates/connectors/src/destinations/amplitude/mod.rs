//! Amplitude: events, user properties and groups by the HTTP API V2, group properties by
//! `groupidentify`, aliases by `usermap`.

mod config;
mod event;
mod map;
mod properties;
mod revenue;
mod rudder;
#[cfg(test)]
mod tests;

pub use config::{Region, Settings};
#[cfg(test)]
pub(crate) use rudder::translate;

use super::mapper::Mapper;

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
