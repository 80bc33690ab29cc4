//! What is true of Mixpanel's ingestion API.

use std::time::Duration;

use serde_json::json;

use super::config::Settings;
use super::map::Mixpanel;
use crate::http::{AnswerRule, Check, Class, Find, ItemResults, Join, JoinRule, Profile};

/// Events, or changes of user profiles, in one request: Mixpanel's limit.
const MAX_ELEMENTS: usize = 2_000;

/// Changes of group profiles in one request: Mixpanel's limit.
const MAX_GROUP_ELEMENTS: usize = 200;

/// Mixpanel takes 10 MB; a fifth of it is answered well before the time-out.
const MAX_BYTES: usize = 2_000_000;

/// Long enough to fill a request of a busy source, short enough not to be noticed in reports.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Imports of the largest size take seconds there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How Mixpanel is spoken to.
pub(super) fn profile(settings: &Settings) -> Profile {
    // An import of nothing: it is answered by the credentials alone.
    let nothing = Mixpanel { settings: settings.clone() }.import_all(&json!([]));
    Profile {
        timeout: TIMEOUT,
        max_items: MAX_ELEMENTS,
        max_bytes: MAX_BYTES,
        max_wait: MAX_WAIT,
        joins: vec![
            JoinRule::path("/groups/", Join::arrays(&["."], MAX_GROUP_ELEMENTS)),
            JoinRule::path("", Join::arrays(&["."], MAX_ELEMENTS)),
        ],
        hosts: vec![settings.region.host().to_owned()],
        // Changes of profiles of which none was taken; an import's status is a word.
        answers: vec![
            AnswerRule::status(200, Class::Unclear).when(|body| body["status"] == 0).telling("error"),
        ],
        // What is strict takes the good events and changes and tells of the others.
        items: Some(ItemResults {
            status: vec![(200, 200), (400, 400)],
            at: "failed_records".to_owned(),
            find: Find::Index { index: "index".to_owned(), array: None },
            ok: None,
            classes: Vec::new(),
            message: Some("message".to_owned()),
        }),
        ..Profile::new(Check::Ask { request: nothing, expect: vec![200, 400] })
    }
}
