//! A person as Klaviyo's profile.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::{IdentifyBy, Settings};
use crate::destinations::shared::fields::{
    EMAIL, Line, PHONE, USER_ID, fill, integration, missing, pick_text, set, text, traits,
};
use crate::destinations::shared::flatten::flatten;

/// What Klaviyo knows by a name of its own.
const ATTRIBUTES: &[Line] = &[
    (
        "first_name",
        &[
            "traits.firstName",
            "traits.firstname",
            "traits.first_name",
            "context.traits.firstName",
            "context.traits.firstname",
            "context.traits.first_name",
        ],
    ),
    (
        "last_name",
        &[
            "traits.lastName",
            "traits.lastname",
            "traits.last_name",
            "context.traits.lastName",
            "context.traits.lastname",
            "context.traits.last_name",
        ],
    ),
    ("title", &["traits.title", "context.traits.title"]),
    ("organization", &["traits.organization", "context.traits.organization"]),
    ("image", &["traits.image", "traits.avatar", "context.traits.image", "context.traits.avatar"]),
];

/// Below the attribute `location`.
const LOCATION: &[Line] = &[
    (
        "address1",
        &["traits.street", "traits.address.street", "context.traits.street", "context.traits.address.street"],
    ),
    ("city", &["traits.city", "traits.address.city", "context.traits.city", "context.traits.address.city"]),
    (
        "region",
        &["traits.region", "traits.address.state", "context.traits.region", "context.traits.address.state"],
    ),
    (
        "country",
        &[
            "traits.country",
            "traits.address.country",
            "context.traits.country",
            "context.traits.address.country",
        ],
    ),
    (
        "zip",
        &[
            "traits.zip",
            "traits.address.postalCode",
            "context.traits.zip",
            "context.traits.address.postalCode",
        ],
    ),
];

/// Traits that are said otherwise: as an attribute, as an identifier, or in a subscription.
const SAID_OTHERWISE: &[&str] = &[
    "email",
    "phone",
    "firstName",
    "firstname",
    "first_name",
    "lastName",
    "lastname",
    "last_name",
    "title",
    "organization",
    "image",
    "avatar",
    "street",
    "city",
    "region",
    "country",
    "zip",
    "address",
    "userId",
    "anonymousId",
    "properties",
];

/// A profile's attributes, and the properties that are to be patched rather than set.
pub(super) struct Profile {
    pub(super) attributes: Map<String, Value>,
    pub(super) patch: Map<String, Value>,
}

/// The profile of the person that the event is about.
///
/// # Errors
/// The phone number is not one that Klaviyo takes; or nobody is named.
pub(super) fn profile(settings: &Settings, document: &Document) -> Result<Profile, Reason> {
    let mut attributes = Map::new();
    let user_id = pick_text(document, USER_ID);
    let anonymous_id = pick_text(document, &["anonymousId"]);
    let reach = Reach::of(document)?;
    let mut properties = traits(document);
    properties.retain(|name, _| !SAID_OTHERWISE.contains(&name.as_str()));
    let patch = patch(document, &mut properties);
    if settings.flatten {
        properties = flatten(properties);
    }
    match settings.identify_by {
        IdentifyBy::UserId if user_id.is_none() && anonymous_id.is_none() && reach.is_nobody() => {
            return Err(missing("userId, anonymousId, the e-mail address or the phone number"));
        }
        IdentifyBy::EmailOrPhone if reach.is_nobody() => {
            return Err(missing("the e-mail address or the phone number (identify_by: email_or_phone)"));
        }
        IdentifyBy::UserId => set(&mut attributes, "external_id", user_id),
        IdentifyBy::EmailOrPhone => set(&mut properties, "_id", user_id),
    }
    set(&mut attributes, "anonymous_id", anonymous_id);
    set(&mut attributes, "email", reach.email);
    set(&mut attributes, "phone_number", reach.phone);
    fill(&mut attributes, document, ATTRIBUTES);
    let mut location = Map::new();
    fill(&mut location, document, LOCATION);
    if !location.is_empty() {
        attributes.insert("location".to_owned(), Value::Object(location));
    }
    attributes.insert("properties".to_owned(), Value::Object(properties));
    Ok(Profile { attributes, patch })
}

/// By what a person is reached.
pub(super) struct Reach {
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
}

impl Reach {
    /// # Errors
    /// The phone number is not in the international form.
    pub(super) fn of(document: &Document) -> Result<Self, Reason> {
        let phone = pick_text(document, PHONE);
        if phone.as_deref().is_some_and(|phone| !is_e164(phone)) {
            return Err(Reason::new(
                "invalid_phone",
                "the phone number is not in E.164 form (+ and country code): Klaviyo takes no other",
            ));
        }
        Ok(Self { email: pick_text(document, EMAIL), phone })
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.email.is_none() && self.phone.is_none()
    }
}

/// `+`, a country code that does not begin with 0, at most 15 digits; blanks and the like may group them.
fn is_e164(phone: &str) -> bool {
    let digits: String = phone.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.')).collect();
    let Some(digits) = digits.strip_prefix('+') else { return false };
    (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

/// `patch_properties`: what `integrations.Klaviyo` says to append to lists, to take from lists, or to unset.
fn patch(document: &Document, properties: &mut Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    let Some(options) = integration(document, "klaviyo") else { return patch };
    for (target, option) in [("append", "fieldsToAppend"), ("unappend", "fieldsToUnappend")] {
        let mut values = Map::new();
        for name in names(options, option) {
            if let Some(value) = properties.remove(&name) {
                values.insert(name, value);
            }
        }
        if !values.is_empty() {
            patch.insert(target.to_owned(), Value::Object(values));
        }
    }
    let unset = names(options, "fieldsToUnset");
    if !unset.is_empty() {
        for name in &unset {
            properties.remove(name);
        }
        patch.insert("unset".to_owned(), json!(unset));
    }
    patch
}

fn names(options: &Map<String, Value>, option: &str) -> Vec<String> {
    options
        .get(option)
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(text).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_number_has_its_country_code() {
        for good in ["+12 345 578 900", "+9112340375", "+44 (20) 7946-0958"] {
            assert!(is_e164(good), "{good}");
        }
        for bad in ["9112340375", "+0123456", "+1", "+12a34", "+1234567890123456", ""] {
            assert!(!is_e164(bad), "{bad}");
        }
    }
}
