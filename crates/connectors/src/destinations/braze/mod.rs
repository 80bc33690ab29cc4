//! Braze: attributes (`identify`, and the traits of all others), events and purchases through
//! `/users/track`, subscription groups or group attributes (`group`), merges (`alias`). The shapes are
//! those of <https://www.braze.com/docs/api/home>.
//!
//! A row that is gone deletes its user there, with all that Braze knows of them.

mod attributes;
mod config;
mod events;
mod map;
mod purchases;
mod rudder;
mod shop;

pub use config::{Groups, Instance, Settings};
#[cfg(test)]
pub(crate) use rudder::translate;

use super::mapper::Mapper;

/// What makes the requests of these settings.
pub(crate) fn mapper(settings: &Settings) -> Box<dyn Mapper> {
    Box::new(map::Braze { settings: settings.clone() })
}
