//! Klaviyo: profiles (`identify`), events (`track`, `screen`) and list subscriptions (`group`, and
//! `identify` with `traits.properties.subscribe`). The shapes are those of Klaviyo's API,
//! <https://developers.klaviyo.com/en/reference/api_overview>.
//!
//! Rows that are gone are not deleted: Klaviyo has a privacy erasure alone, which also forgets consent.

mod config;
mod legacy;
mod map;
mod profile;
mod rudder;
mod subscription;

pub use config::{Channel, IdentifyBy, Revision, Settings};
#[cfg(test)]
pub(crate) use rudder::translate;

use super::mapper::Mapper;

/// What makes the requests of these settings.
pub(crate) fn mapper(settings: &Settings) -> Box<dyn Mapper> {
    Box::new(map::Klaviyo { settings: settings.clone() })
}
