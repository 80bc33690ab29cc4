//! What is true of Amplitude's API: <https://amplitude.com/docs/apis/analytics/http-v2>.

use std::num::NonZeroU32;
use std::time::Duration;

use millrace_connector::Rate;
use serde_json::Value;

use super::config::Settings;
use crate::http::{Answer, AnswerRule, Call, Check, Class, Join, JoinRule, Profile, Verdict};

/// Amplitude asks for no more than ten events a call, a hundred calls a second; beyond, it answers 429.
const MAX_ITEMS: usize = 10;
const CALLS_A_SECOND: u32 = 100;

/// A call with more events, or more bytes, is answered 413. An item with products has several events.
const MAX_EVENTS: usize = 2000;
const MAX_BYTES: usize = 1_000_000;

/// How late an event may be for the sake of a fuller call.
const MAX_WAIT: Duration = Duration::from_millis(500);

pub(super) fn profile(settings: &Settings) -> Profile {
    let region = settings.region;
    let host = |url: &str| url.trim_start_matches("https://").to_owned();
    Profile {
        rate: NonZeroU32::new(CALLS_A_SECOND).map(|calls| Rate { calls, per: Duration::from_secs(1) }),
        max_items: MAX_ITEMS,
        max_bytes: MAX_BYTES,
        max_wait: MAX_WAIT,
        joins: vec![JoinRule::path("/2/httpapi", Join::arrays(&["events"], MAX_EVENTS))],
        hosts: vec![host(region.api()), host(region.analytics())],
        answers: vec![AnswerRule::status(400, Class::Auth).when(is_invalid_key)],
        read: Some(read),
        // There is no request that proves a key and counts nothing.
        ..Profile::new(Check::Reach(format!("{}/", region.api())))
    }
}

/// The message itself repeats the key.
fn is_invalid_key(body: &Value) -> bool {
    body.get("error").and_then(Value::as_str).is_some_and(|error| error.starts_with("Invalid API key"))
}

/// Of a call that is refused Amplitude names the events it is about, by their numbers: those get what
/// they deserve, the others are sent again without them.
fn read(answer: &Answer, call: &Call) -> Option<Vec<Verdict>> {
    let body = answer.json()?;
    let told: Vec<(usize, Verdict)> = match answer.status {
        400 => refused(&body),
        429 => throttled(&body),
        _ => return None,
    };
    let mut verdicts = vec![(Class::Unclear, None); call.items.len()];
    let mut named = false;
    for (event, verdict) in told {
        if let Some(place) = call.owner(None, event).and_then(|item| verdicts.get_mut(item)) {
            *place = verdict;
            named = true;
        }
    }
    named.then_some(verdicts)
}

/// `{"events_with_invalid_fields": {"time": [3, 4]}, …}`.
fn refused(body: &Value) -> Vec<(usize, Verdict)> {
    const LISTS: [(&str, &str); 3] = [
        ("events_with_invalid_fields", "is not valid"),
        ("events_with_missing_fields", "is missing"),
        ("events_with_invalid_id_lengths", "is too short or too long"),
    ];
    let mut told = Vec::new();
    for (list, problem) in LISTS {
        for (field, events) in body.get(list).and_then(Value::as_object).into_iter().flatten() {
            let verdict = (Class::Rejected, Some(format!("{field} {problem}")));
            told.extend(numbers(events).map(|event| (event, verdict.clone())));
        }
    }
    let silenced = body.get("silenced_events").into_iter().flat_map(numbers);
    told.extend(silenced.map(|event| (event, (Class::Rejected, Some("its device is silenced".to_owned())))));
    told
}

/// `{"throttled_events": [3, 4]}`: a user or device sends too much, the others do not. Without such a
/// list it is all of the project.
fn throttled(body: &Value) -> Vec<(usize, Verdict)> {
    let events = body.get("throttled_events").into_iter().flat_map(numbers);
    let told = || Some("the user or device sends too many events".to_owned());
    events.map(|event| (event, (Class::Transient, told()))).collect()
}

fn numbers(list: &Value) -> impl Iterator<Item = usize> {
    let elements = list.as_array().into_iter().flatten();
    elements.filter_map(|number| usize::try_from(number.as_u64()?).ok())
}
