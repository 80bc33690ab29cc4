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
mod rudder;

pub use config::{IdentityMerge, Region, ServiceAccount, Settings};
#[cfg(test)]
pub(crate) use rudder::translate;

use super::mapper::Mapper;

/// What makes the requests of these settings.
pub(crate) fn mapper(settings: &Settings) -> Box<dyn Mapper> {
    Box::new(map::Mixpanel { settings: settings.clone() })
}
