//! L: 2 to 3 KB, as a browser's SDK sends it: a nested context and a list of products.

use std::fmt::Write;

use fastrand::Rng;

use super::people::{Personal, personal};
use super::{Facts, pick, words};

const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
];

const LOCALES: [&str; 4] = ["en-GB", "de-DE", "ja-JP", "pt-BR"];

pub(super) fn event(rng: &mut Rng, facts: &Facts) -> String {
    let Facts { event_type, message_id, person, known, original_timestamp, sent_at } = facts;
    let mut json = format!(
        r#"{{"type":"{event_type}","messageId":"{message_id}","anonymousId":"{}","channel":"web","originalTimestamp":"{original_timestamp}","sentAt":"{sent_at}","integrations":{{"All":true,"Amplitude":{{"session_id":{}}}}}"#,
        person.anonymous_id,
        rng.u64(1_700_000_000_000..1_800_000_000_000),
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
    context(rng, &mut json);
    let group = match *event_type {
        "identify" | "group" => "traits",
        _ => "properties",
    };
    let _ = write!(
        json,
        r#","{group}":{{"order_id":"{}","name":"{}","revenue":{}.5,"currency":"EUR""#,
        words::token(rng, 12),
        words::product_name(rng),
        rng.u32(10..1000)
    );
    if let Some(Personal { field, text }) = personal(rng) {
        let _ = write!(json, r#","{field}":"{text}""#);
    }
    products(rng, &mut json);
    json.push_str("}}");
    json
}

fn context(rng: &mut Rng, json: &mut String) {
    let _ = write!(
        json,
        r#","context":{{"app":{{"name":"Shop","namespace":"com.example.shop","version":"3.{}.0","installType":"npm"}},"library":{{"name":"RudderLabs JavaScript SDK","version":"3.34.1"}},"userAgent":"{}","locale":"{}","timezone":"GMT+0100","screen":{{"density":2,"width":{},"height":1117,"innerWidth":1728,"innerHeight":992}},"os":{{"name":"","version":""}},"sessionId":{},"sessionStart":{},"campaign":{{"source":"newsletter","medium":"email","name":"autumn-{}","term":"boots","content":"hero"}},"page":{{"path":"/p/{}","referrer":"https://search.example/","referring_domain":"search.example","search":"?utm_source=newsletter&utm_medium=email&gclid={}","title":"{} - Shop","url":"https://shop.example/p/{}?gclid={}","tab_url":"https://shop.example/p","initial_referrer":"$direct","initial_referring_domain":""}},"network":{{"carrier":"","cellular":false,"wifi":true}},"device":{{"id":"{}","manufacturer":"Example","model":"Model {}","type":"desktop"}},"consentManagement":{{"provider":"custom","allowedConsentIds":["necessary","analytics"],"deniedConsentIds":["marketing"],"resolutionStrategy":"and"}}}}"#,
        rng.u32(..40),
        pick(rng, &AGENTS),
        pick(rng, &LOCALES),
        pick(rng, &[1280, 1728, 390, 2560]),
        rng.u64(1_700_000_000_000..1_800_000_000_000),
        rng.bool(),
        rng.u32(1..9),
        rng.u32(1000..10_000),
        words::token(rng, 60),
        words::plain_name(rng),
        rng.u32(1000..10_000),
        words::token(rng, 60),
        words::token(rng, 22),
        rng.u32(1..99),
    );
}

fn products(rng: &mut Rng, json: &mut String) {
    json.push_str(r#","products":["#);
    let count = rng.u32(3..7);
    for number in 0..count {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(
            json,
            r#"{comma}{{"product_id":"sku-{:05}","sku":"{}","name":"{}","category":"{}","price":{}.99,"quantity":{},"position":{number}}}"#,
            rng.u32(..100_000),
            words::token(rng, 8),
            words::plain_name(rng),
            pick(rng, &words::CATEGORIES),
            rng.u32(1..500),
            rng.u32(1..4),
        );
    }
    json.push(']');
}
