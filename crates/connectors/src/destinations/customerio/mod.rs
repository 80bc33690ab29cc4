//! Customer.io: people, their events and devices, and objects with their relationships.
//!
//! An event is first an [`operation::Operation`], in Customer.io's own terms; then that is written for one
//! of its two APIs (<https://docs.customer.io/integrations/api/track>):
//! - `v1`, one request per item, each with an address of its own: what RudderStack sends;
//! - `v2`, operations in batches, whose answers tell of each by itself (setting `batch`).
//!
//! A row that is gone deletes its person there.

mod config;
mod map;
mod operation;
mod rudder;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::num::NonZeroU32;
use std::time::Duration;

use millrace_connector::{DestinationEntry, HttpRequest, Rate};

use crate::http::{Check, Find, HttpEntry, ItemResults, Join, JoinRule, Mapper, Namesake, Profile};
pub use config::{Region, Settings};
pub(crate) use rudder::translate;

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry {
        kind: "customerio",
        summary: "People, events, devices and objects of Customer.io",
        mapper,
        profile,
        rudder: Some(Namesake { name: "CUSTOMERIO", display_names: &["Customer IO"], settings: translate }),
    }
    .entry()
}

/// What makes the requests of these settings.
pub(crate) fn mapper(settings: &Settings) -> Result<Box<dyn Mapper>, String> {
    Ok(Box::new(map::CustomerIo::new(settings)))
}

/// A hundred requests a second is what Customer.io asks of its callers, over both APIs.
const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).expect("not 0");

/// Operations in one call of `v2`: of a hundred the answer is quick, and one that is refused holds up few.
const BATCH_ITEMS: usize = 100;

/// `v2` takes 500 kB a call; less leaves room for what joins the bodies. An operation that is larger goes
/// alone, and is refused (an operation may have 32 kB).
const BATCH_BYTES: usize = 480_000;

/// How long a batch waits to be full.
const MAX_WAIT: Duration = Duration::from_millis(500);

fn profile(settings: &Settings) -> Profile {
    let region = HttpRequest::new("GET", format!("{}/api/v1/accounts/region", settings.region.origin()))
        .header("authorization", settings.authorization());
    let profile = Profile {
        rate: Some(Rate { calls: REQUESTS_PER_SECOND, per: Duration::from_secs(1) }),
        hosts: vec![settings.region.host().to_owned()],
        // Objects go to `v2` in both modes, and it takes lists alone.
        joins: vec![JoinRule::path(v2::PATH, Join::wrap("batch", BATCH_ITEMS))],
        // 207: some operations of a batch were refused, and these are they.
        items: Some(ItemResults {
            status: vec![(200, 207)],
            at: "errors".to_owned(),
            find: Find::Index { index: "batch_index".to_owned(), array: None },
            ok: None,
            classes: Vec::new(),
            message: Some("message".to_owned()),
        }),
        ..Profile::new(Check::Ask { request: region, expect: Vec::new() })
    };
    if !settings.batch {
        return profile;
    }
    Profile { max_items: BATCH_ITEMS, max_bytes: BATCH_BYTES, max_wait: MAX_WAIT, ..profile }
}
