//! Google Analytics 4 by its Measurement Protocol: one event a request, since what stands beside the
//! events of a request is true of one person at one moment.

mod config;
mod items;
mod map;
mod names;
mod params;
mod rudder;
mod standard;
#[cfg(test)]
mod tests;
mod user;

pub use config::Settings;
#[cfg(test)]
pub(crate) use rudder::translate;

use super::mapper::Mapper;

/// What makes the requests of these settings.
///
/// # Errors
/// What is wrong with the settings, and what to do.
pub(crate) fn mapper(settings: &Settings) -> Result<Box<dyn Mapper>, String> {
    Ok(Box::new(map::Analytics::new(settings.clone())?))
}
