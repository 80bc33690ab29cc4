//! Facebook's Conversions API: events of people for Meta's advertising, sent from the server
//! (<https://developers.facebook.com/docs/marketing-api/conversions-api>). Who the people are goes out as
//! hashes alone.

mod answers;
mod app;
mod config;
mod content;
mod custom;
mod event;
mod map;
mod person;
mod rudder;
#[cfg(test)]
mod tests;

use std::time::Duration;

use millrace_connector::{DestinationEntry, HttpRequest};

use crate::http::{Check, HttpEntry, Join, JoinRule, Mapper, Namesake, Profile};
pub use config::{ActionSource, Settings};
pub(crate) use rudder::translate;

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry {
        kind: "facebook_conversions",
        summary: "Events for Meta's Conversions API",
        mapper,
        profile,
        rudder: Some(Namesake {
            name: "FACEBOOK_CONVERSIONS",
            display_names: &["Facebook Conversions"],
            settings: translate,
        }),
    }
    .entry()
}

/// The version of the Graph API: Meta keeps one for two years.
const GRAPH: &str = "https://graph.facebook.com/v25.0";

/// What makes the requests of these settings.
pub(crate) fn mapper(settings: &Settings) -> Result<Box<dyn Mapper>, String> {
    Ok(Box::new(map::Conversions::new(settings)))
}

const HOST: &str = "graph.facebook.com";

/// Meta takes 1000 events a call, and refuses all of them where one is wrong: with half as many the search
/// for that one is shorter.
const BATCH_EVENTS: usize = 500;

/// No limit is published; a call of this size is quick.
const BATCH_BYTES: usize = 1024 * 1024;

/// How long a batch waits to be full.
const MAX_WAIT: Duration = Duration::from_millis(500);

fn profile(settings: &Settings) -> Profile {
    let dataset = HttpRequest::new("GET", format!("{GRAPH}/{}", settings.dataset_id))
        .query("fields", "id")
        .query("access_token", settings.access_token.expose());
    Profile {
        hosts: vec![HOST.to_owned()],
        // An event has its own time.
        ordered: false,
        max_items: BATCH_EVENTS,
        max_bytes: BATCH_BYTES,
        max_wait: MAX_WAIT,
        joins: JoinRule::all(Join::arrays(&["data"], BATCH_EVENTS)),
        answers: answers::rules(),
        ..Profile::new(Check::Ask { request: dataset, expect: Vec::new() })
    }
}
