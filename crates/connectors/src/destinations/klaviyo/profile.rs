//! What is true of Klaviyo's API.

use std::time::Duration;

use serde_json::json;

use super::config::{Revision, Settings};
use super::map::{HOST, Klaviyo};
use super::subscription::{JOIN_JOBS, LEAVE_JOBS};
use crate::http::{AnswerRule, Check, Class, Join, JoinRule, Profile};

/// People in a job that subscribes: Klaviyo's limit.
const MAX_JOINING: usize = 1_000;

/// People in a job that unsubscribes: Klaviyo's limit.
const MAX_LEAVING: usize = 100;

/// Profiles and events go one by one, four at once. An item may make several requests, so with more items
/// a batch would be over its time before the last has been sent, and its items would begin again.
const MAX_ITEMS: usize = 4;

/// Calls under way at once; with the four of each, within Klaviyo's burst of 75 profiles a second.
const CONCURRENCY: usize = 4;

/// Long enough for a few to share a job, short enough for a welcome mail.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// How Klaviyo is spoken to.
pub(super) fn profile(settings: &Settings) -> Profile {
    let klaviyo = Klaviyo { settings: settings.clone() };
    // A profile without anything is refused as such, if the key is a good one.
    let nothing = klaviyo.post("/api/profile-import", Revision::V2024.max(settings.revision), &json!({}));
    // Of revision 2023-02-22 and of later ones.
    let people = ["data.attributes.subscriptions", "data.attributes.profiles.data"];
    Profile {
        max_items: MAX_ITEMS,
        concurrency: CONCURRENCY,
        max_wait: MAX_WAIT,
        joins: vec![
            JoinRule::path(JOIN_JOBS, Join::arrays(&people, MAX_JOINING)),
            JoinRule::path(LEAVE_JOBS, Join::arrays(&people, MAX_LEAVING)),
        ],
        hosts: vec![HOST.to_owned()],
        // The title says what is wrong; the detail repeats what was sent.
        answers: [400, 404, 409, 422]
            .map(|status| AnswerRule::status(status, Class::Unclear).telling("errors.0.title"))
            .to_vec(),
        ..Profile::new(Check::Ask { request: nothing, expect: vec![200, 201, 400] })
    }
}
