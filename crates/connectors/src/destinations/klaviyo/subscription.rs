//! Joining and leaving a list of Klaviyo's.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::{Channel, Revision, Settings};
use super::map::Klaviyo;
use super::person::Reach;
use crate::destinations::shared::fields::{missing, pick, pick_text};

/// The path of jobs that subscribe.
pub(super) const JOIN_JOBS: &str = "/api/profile-subscription-bulk-create-jobs";

/// The path of jobs that unsubscribe.
pub(super) const LEAVE_JOBS: &str = "/api/profile-subscription-bulk-delete-jobs";

/// What an event says about a subscription.
struct Wish {
    list: String,
    join: bool,
    consent: Vec<Channel>,
}

/// The subscription that an `identify` asks for in `traits.properties`; none without a list, or a
/// `subscribe` that is true or false.
pub(super) fn of_identify(klaviyo: &Klaviyo, document: &Document) -> Result<Option<HttpRequest>, Reason> {
    const LIST: &[&str] = &["traits.properties.listId", "context.traits.properties.listId"];
    const SUBSCRIBE: &[&str] = &["traits.properties.subscribe", "context.traits.properties.subscribe"];
    const CONSENT: &[&str] = &["traits.properties.consent", "context.traits.properties.consent"];
    let settings = &klaviyo.settings;
    let Some(join) = pick(document, SUBSCRIBE).and_then(flag) else { return Ok(None) };
    let Some(list) = pick_text(document, LIST).or_else(|| settings.list.clone()) else { return Ok(None) };
    let wish = Wish { list, join, consent: consent(settings, document, CONSENT) };
    let reach = Reach::of(document)?;
    // The profile is known by its user id then, and Klaviyo subscribes addresses.
    if reach.is_nobody() || (!join && settings.revision == Revision::V2023) {
        return Ok(None);
    }
    Ok(Some(request(klaviyo, &wish, reach)))
}

/// A `group` is a list.
pub(super) fn of_group(klaviyo: &Klaviyo, document: &Document) -> Result<HttpRequest, Reason> {
    let list = pick_text(document, &["groupId", "traits.groupId"]).ok_or_else(|| missing("groupId"))?;
    let join = pick(document, &["traits.subscribe"]).and_then(flag);
    let join = join.ok_or_else(|| missing("traits.subscribe (true or false)"))?;
    let wish = Wish { list, join, consent: consent(&klaviyo.settings, document, &["traits.consent"]) };
    let reach = Reach::of(document)?;
    if reach.is_nobody() {
        return Err(missing("the e-mail address or the phone number"));
    }
    Ok(request(klaviyo, &wish, reach))
}

fn request(klaviyo: &Klaviyo, wish: &Wish, reach: Reach) -> HttpRequest {
    let (kind, path) = match wish.join {
        true => ("profile-subscription-bulk-create-job", JOIN_JOBS),
        false => ("profile-subscription-bulk-delete-job", LEAVE_JOBS),
    };
    let revision = klaviyo.settings.revision;
    let channels = usable(&wish.consent, &reach);
    let mut person = Map::new();
    for (name, value) in [("email", reach.email), ("phone_number", reach.phone)] {
        person.extend(value.map(|value| (name.to_owned(), Value::String(value))));
    }
    if revision == Revision::V2023 {
        if wish.join && !channels.is_empty() {
            let channels: Map<_, _> =
                channels.iter().map(|name| ((*name).to_owned(), json!(["MARKETING"]))).collect();
            person.insert("channels".to_owned(), Value::Object(channels));
        }
        let attributes = json!({"list_id": wish.list, "subscriptions": [person]});
        return klaviyo.post(path, revision, &json!({"data": {"type": kind, "attributes": attributes}}));
    }
    let consent = if wish.join { "SUBSCRIBED" } else { "UNSUBSCRIBED" };
    if !channels.is_empty() && (wish.join || revision >= Revision::V2026) {
        let marketing = json!({"marketing": {"consent": consent}});
        let subscriptions: Map<_, _> =
            channels.iter().map(|name| ((*name).to_owned(), marketing.clone())).collect();
        person.insert("subscriptions".to_owned(), Value::Object(subscriptions));
    }
    klaviyo.post(
        path,
        revision,
        &json!({"data": {
            "type": kind,
            "attributes": {"profiles": {"data": [{"type": "profile", "attributes": person}]}},
            "relationships": {"list": {"data": {"type": "list", "id": wish.list}}},
        }}),
    )
}

/// The channels by which this person can be reached at all.
fn usable(consent: &[Channel], reach: &Reach) -> Vec<&'static str> {
    let mut usable = Vec::new();
    if consent.contains(&Channel::Email) && reach.email.is_some() {
        usable.push("email");
    }
    if consent.contains(&Channel::Sms) && reach.phone.is_some() {
        usable.push("sms");
    }
    usable
}

/// What the event says, one channel or a list of them; else the settings.
fn consent(settings: &Settings, document: &Document, paths: &[&str]) -> Vec<Channel> {
    let said = match pick(document, paths) {
        Some(Value::Array(list)) => list.iter().filter_map(channel).collect(),
        Some(one) => channel(one).into_iter().collect(),
        None => Vec::new(),
    };
    if said.is_empty() { settings.consent.clone() } else { said }
}

fn channel(value: &Value) -> Option<Channel> {
    match value.as_str()?.to_ascii_lowercase().as_str() {
        "email" => Some(Channel::Email),
        "sms" => Some(Channel::Sms),
        _ => None,
    }
}

/// True or false, also as a text: CSV files and forms know no other.
fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_str()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    })
}
