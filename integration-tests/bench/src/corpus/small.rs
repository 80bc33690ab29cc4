//! S: 571 bytes, flat, as a web shop's tracking plan has it.

use std::fmt::Write;

use fastrand::Rng;

use super::people::{Personal, personal};
use super::{Facts, SMALL_BYTES, pick, words};

/// Of the address that leads to the page: what an advertiser appends fills the event up to its size.
const FILL: &str = "{click}";

pub(super) fn event(rng: &mut Rng, facts: &Facts) -> String {
    let mut json = head(rng, facts);
    let group = match facts.event_type {
        "identify" | "group" => "traits",
        _ => "properties",
    };
    let price = rng.u32(100..99_999);
    // Writing to a string does not fail.
    let _ = write!(
        json,
        r#","{group}":{{"product_id":"sku-{:05}","name":"{}","category":"{}","price":{}.{:02},"quantity":{},"url":"https://shop.example/p/{}""#,
        rng.u32(..100_000),
        words::product_name(rng),
        pick(rng, &words::CATEGORIES),
        price / 100,
        price % 100,
        rng.u32(1..5),
        rng.u32(1000..10_000),
    );
    if let Some(Personal { field, text }) = personal(rng) {
        let _ = write!(json, r#","{field}":"{text}""#);
    }
    let _ = write!(json, r#","referrer":"https://ads.example/?id={FILL}"}}}}"#);
    let missing = SMALL_BYTES.saturating_sub(json.len() - FILL.len());
    json.replace(FILL, &words::token(rng, missing))
}

fn head(rng: &mut Rng, facts: &Facts) -> String {
    let Facts { event_type, message_id, person, known, original_timestamp, sent_at } = facts;
    let mut json = format!(
        r#"{{"type":"{event_type}","messageId":"{message_id}","anonymousId":"{}","channel":"web","originalTimestamp":"{original_timestamp}","sentAt":"{sent_at}""#,
        person.anonymous_id
    );
    if *known {
        let _ = write!(json, r#","userId":"{}""#, person.user_id);
    }
    let _ = match *event_type {
        "track" => write!(json, r#","event":"{}""#, pick(rng, &words::EVENTS)),
        "page" | "screen" => write!(json, r#","name":"{}""#, pick(rng, &words::PAGES)),
        "group" => write!(json, r#","groupId":"group-{:04}""#, rng.u32(..10_000)),
        "alias" => write!(json, r#","previousId":"{}""#, person.anonymous_id),
        _ => Ok(()),
    };
    json
}
