//! Slack: a message in a channel per event, by an incoming webhook.

mod config;
mod map;
mod rudder;
#[cfg(test)]
mod tests;

use millrace_connector::DestinationEntry;

use crate::http::{AnswerRule, Check, Class, HttpEntry, Namesake, Profile};

pub use config::{Channel, EventTemplate, Settings};

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    HttpEntry {
        kind: "slack",
        summary: "A message in a Slack channel per event",
        mapper: |settings: &Settings| Ok(Box::new(map::Messages::new(settings)?)),
        profile,
        rudder: Some(Namesake { name: "SLACK", display_names: &["Slack"], settings: rudder::translate }),
    }
    .entry()
}

fn profile(_: &Settings) -> Profile {
    Profile {
        // One message a second and channel is what Slack takes; bursts are let through.
        rate: Some(millrace_connector::Rate {
            calls: std::num::NonZeroU32::MIN,
            per: std::time::Duration::from_secs(1),
        }),
        concurrency: 1,
        hosts: vec!["hooks.slack.com".to_owned()],
        answers: vec![
            // The webhook, or its channel, is no more.
            AnswerRule::status(404, Class::Config),
            AnswerRule::status(410, Class::Config),
        ],
        ..Profile::new(Check::Reach("https://hooks.slack.com/".to_owned()))
    }
}
