//! What somebody did, as Mixpanel's event.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::config::IdentityMerge;
use super::map::Mixpanel;
use crate::destinations::shared::fields::{Line, USER_ID, fill, missing, object, pick, pick_text, set, text};
use crate::destinations::shared::names::render;
use crate::destinations::shared::{times, user_agent};

/// Mixpanel's properties of an event's surroundings.
const SURROUNDINGS: &[Line] = &[
    ("ip", &["context.ip", "request_ip"]),
    ("campaign_id", &["context.campaign.name"]),
    ("$current_url", &["context.page.url"]),
    ("$referrer", &["context.page.referrer"]),
    ("$initial_referrer", &["context.page.initial_referrer"]),
    ("$initial_referring_domain", &["context.page.initial_referring_domain"]),
    ("$os", &["context.os.name"]),
    ("$os_version", &["context.os.version"]),
    ("$screen_height", &["context.screen.height"]),
    ("$screen_width", &["context.screen.width"]),
    ("$screen_dpi", &["context.screen.density"]),
    ("$carrier", &["context.network.carrier"]),
    ("$wifi", &["context.network.wifi"]),
    ("$bluetooth_enabled", &["context.network.bluetooth"]),
    ("$device", &["context.device.name"]),
    ("$manufacturer", &["context.device.manufacturer"]),
    ("$model", &["context.device.model"]),
    ("mp_device_model", &["context.device.model"]),
    ("mp_lib", &["context.library.name"]),
    ("$app_build_number", &["context.app.build"]),
    ("$app_version_string", &["context.app.version"]),
    ("$app_name", &["context.app.name"]),
    ("$app_namespace", &["context.app.namespace"]),
];

/// What a page or screen has a field of its own for.
const VIEW: &[Line] =
    &[("name", &["name", "properties.name"]), ("category", &["category", "properties.category"])];

/// The event, and then what it adds to the person's profile. Mixpanel knows a repeated event by its
/// `$insert_id`, and no repeated addition: so those go last and together, and nothing else that has to be
/// tried again counts them twice.
pub(super) fn requests(mixpanel: &Mixpanel, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
    check(document)?;
    let settings = &mixpanel.settings;
    let view = match document.event_type().as_str() {
        "page" => Some(&settings.page_event),
        "screen" => Some(&settings.screen_event),
        _ => None,
    };
    if let Some(template) = view {
        let mut properties = properties(mixpanel, document)?;
        fill(&mut properties, document, VIEW);
        return Ok(vec![
            mixpanel.import(&json!({"event": render(template, document), "properties": properties})),
        ]);
    }
    let name =
        pick(document, &["event"]).and_then(Value::as_str).ok_or_else(|| missing("the event's name"))?;
    let event = json!({"event": name, "properties": properties(mixpanel, document)?});
    let mut requests = vec![mixpanel.import(&event)];
    let additions: Vec<Value> =
        revenue(mixpanel, document)?.into_iter().chain(increments(mixpanel, document)?).collect();
    if !additions.is_empty() {
        requests.push(mixpanel.engage_all(&additions));
    }
    Ok(requests)
}

/// Older events are not taken (Mixpanel's limit of `/import`).
const MAX_AGE_MILLIS: i64 = 5 * 365 * 86_400_000;

fn check(document: &Document) -> Result<(), Reason> {
    if document.get("messageId").is_some_and(|id| !id.is_string()) {
        return Err(Reason::new("invalid_field", "messageId is not a text"));
    }
    if let (Some(happened), Some(received)) = (times::happened(document), times::received(document))
        && received - happened > MAX_AGE_MILLIS
    {
        return Err(Reason::new(
            "too_old",
            "the event happened more than five years ago: Mixpanel takes no such",
        ));
    }
    Ok(())
}

fn properties(mixpanel: &Mixpanel, document: &Document) -> Result<Map<String, Value>, Reason> {
    let settings = &mixpanel.settings;
    let mut properties = Map::new();
    if settings.traits_in_events {
        properties.extend(object(document, "context.traits"));
    }
    properties.extend(object(document, "properties"));
    fill(&mut properties, document, SURROUNDINGS);
    properties.extend(campaign(document));
    set(&mut properties, "$user_id", pick_text(document, USER_ID));
    if settings.identity_merge == IdentityMerge::Simplified {
        set(&mut properties, "$device_id", pick_text(document, &["anonymousId"]));
    }
    set(&mut properties, "$session_id", pick(document, &["context.sessionId"]).and_then(text));
    set(&mut properties, "$insert_id", pick_text(document, &["messageId"]).map(|id| insert_id(&id)));
    properties.extend(browser(document));
    properties.insert("token".to_owned(), settings.token.expose().into());
    properties.insert("distinct_id".to_owned(), mixpanel.distinct_id(document)?.into());
    let time = times::happened(document).ok_or_else(|| missing("a timestamp that is a moment"))?;
    properties.insert("time".to_owned(), time.into());
    Ok(properties)
}

/// `utm_campaign`, `utm_source` and so on, as Mixpanel's reports know them.
fn campaign(document: &Document) -> Map<String, Value> {
    let campaign = object(document, "context.campaign");
    let utm = |(name, value): (String, Value)| match name.as_str() {
        "name" => ("utm_campaign".to_owned(), value),
        _ => (format!("utm_{name}"), value),
    };
    campaign.into_iter().map(utm).collect()
}

/// The browser, where the event comes from one.
pub(super) fn browser(document: &Document) -> Vec<(String, Value)> {
    let from_browser = document.text("channel") == Some("web");
    let user_agent = document.text("context.userAgent").filter(|_| from_browser);
    let Some((name, version)) = user_agent.and_then(user_agent::browser) else { return Vec::new() };
    vec![("$browser".to_owned(), name.into()), ("$browser_version".to_owned(), version.into())]
}

/// How long an `$insert_id` may be.
const INSERT_ID_BYTES: usize = 36;

/// By this Mixpanel knows a repetition. It takes 36 letters, digits and hyphens: of a longer id the end,
/// which holds the UUID where there is one; of an id with other signs its hash.
fn insert_id(message_id: &str) -> String {
    if message_id.bytes().any(|b| !b.is_ascii_alphanumeric() && b != b'-') {
        let hash = Sha256::digest(message_id.as_bytes());
        return hash.iter().take(INSERT_ID_BYTES / 2 - 2).map(|byte| format!("{byte:02x}")).collect();
    }
    let start = message_id.len().saturating_sub(INSERT_ID_BYTES);
    message_id.get(start..).unwrap_or(message_id).to_owned()
}

/// A purchase, in the profile's transactions.
fn revenue(mixpanel: &Mixpanel, document: &Document) -> Result<Option<Value>, Reason> {
    let Some(amount) = pick(document, &["properties.revenue"]) else { return Ok(None) };
    let time = times::happened(document).and_then(times::rfc3339);
    let update = json!({
        "$append": {"$transactions": {"$time": time, "$amount": amount}},
        "$token": mixpanel.settings.token.expose(),
        "$distinct_id": mixpanel.distinct_id(document)?,
    });
    Ok(Some(update))
}

/// Numbers of the event that the profile adds up.
fn increments(mixpanel: &Mixpanel, document: &Document) -> Result<Option<Value>, Reason> {
    let mut add = Map::new();
    for name in &mixpanel.settings.increment {
        let value = document.get(&format!("properties.{name}")).filter(|value| value.is_number());
        set(&mut add, name, value.cloned());
    }
    if add.is_empty() {
        return Ok(None);
    }
    let update = json!({
        "$add": add,
        "$token": mixpanel.settings.token.expose(),
        "$distinct_id": mixpanel.distinct_id(document)?,
    });
    Ok(Some(update))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_id_is_what_mixpanel_takes() {
        let long = "1662363980287-168cf720-6227-4b56-a98e-c49bdc7279e9";
        let cases = [("id2", "id2"), (long, "168cf720-6227-4b56-a98e-c49bdc7279e9")];
        for (message_id, expected) in cases {
            assert_eq!(insert_id(message_id), expected);
        }
        let hashed = insert_id("sync/run/key");
        assert!(hashed.len() <= INSERT_ID_BYTES && hashed.bytes().all(|b| b.is_ascii_hexdigit()), "{hashed}");
        assert_ne!(hashed, insert_id("sync/run/other"));
    }
}
