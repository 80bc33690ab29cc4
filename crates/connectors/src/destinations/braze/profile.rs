//! What is true of Braze's REST API.

use std::num::NonZeroU32;
use std::time::Duration;

use millrace_connector::Rate;
use serde_json::{Value, json};

use super::config::Settings;
use super::map::{Braze, TRACK};
use crate::http::{AnswerRule, Check, Class, Find, ItemResults, Join, JoinRule, Profile};

/// Events, attributes and purchases that a request may have of each: Braze's limit.
const MAX_DEEDS: usize = 75;

/// Entries of a request that identifies, merges, subscribes or deletes: Braze's limit.
const MAX_PEOPLE: usize = 50;

/// Long enough to fill a request of a busy source, short enough for a message that an event triggers.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// Braze takes 3,000 requests of `/users/track` in three seconds; more are answered by 429.
const CALLS: NonZeroU32 = NonZeroU32::new(3_000).unwrap();
const CALLS_PER: Duration = Duration::from_secs(3);

/// How Braze is spoken to.
pub(super) fn profile(settings: &Settings) -> Profile {
    let braze = Braze { settings: settings.clone() };
    // A request to write nothing is refused as such, if the key is a good one.
    let nothing = braze.post(TRACK, &json!({}));
    let people = |path: &str, array: &str| JoinRule::path(path, Join::arrays(&[array], MAX_PEOPLE));
    Profile {
        max_items: MAX_DEEDS,
        max_wait: MAX_WAIT,
        rate: Some(Rate { calls: CALLS, per: CALLS_PER }),
        joins: vec![
            JoinRule::path(TRACK, Join::arrays(&["attributes", "events", "purchases"], MAX_DEEDS)),
            people("/users/identify", "aliases_to_identify"),
            people("/users/merge", "merge_updates"),
            people("/users/delete", "external_ids"),
            people("/v2/subscription/status/set", "subscription_groups"),
        ],
        hosts: vec![settings.instance.host().to_owned()],
        answers: vec![
            AnswerRule { status: vec![(200, 299)], ..AnswerRule::status(200, Class::Unclear) }
                .when(failed)
                .telling("message"),
        ],
        // What is in order has been taken, and each entry names one that is not.
        items: Some(ItemResults {
            status: vec![(200, 299)],
            at: "errors".to_owned(),
            find: Find::Index { index: "index".to_owned(), array: Some("input_array".to_owned()) },
            ok: None,
            classes: Vec::new(),
            message: Some("type".to_owned()),
        }),
        ..Profile::new(Check::Ask { request: nothing, expect: vec![200, 201, 400] })
    }
}

/// Braze says `success`, and `queued` while it is being mended; any other word is a fatal error, whatever
/// the status.
fn failed(body: &Value) -> bool {
    body["message"].as_str().is_some_and(|message| !matches!(message, "success" | "queued"))
}
