//! Names of events, parameters and user properties that Google takes.

use millrace_event_model::Reason;

/// Events that Google makes itself; what else has the name is dropped there.
/// <https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference#reserved_event_names>
const RESERVED_EVENTS: &[&str] = &[
    "ad_activeview",
    "ad_click",
    "ad_exposure",
    "ad_impression",
    "ad_query",
    "ad_reward",
    "adunit_exposure",
    "app_background",
    "app_clear_data",
    "app_exception",
    "app_install",
    "app_remove",
    "app_store_refund",
    "app_store_subscription_cancel",
    "app_store_subscription_convert",
    "app_store_subscription_renew",
    "app_update",
    "app_upgrade",
    "dynamic_link_app_open",
    "dynamic_link_app_update",
    "dynamic_link_first_open",
    "error",
    "firebase_campaign",
    "firebase_in_app_message_action",
    "firebase_in_app_message_dismiss",
    "firebase_in_app_message_impression",
    "first_open",
    "first_visit",
    "in_app_purchase",
    "notification_dismiss",
    "notification_foreground",
    "notification_open",
    "notification_receive",
    "notification_send",
    "os_update",
    "session_start",
    "user_engagement",
];

/// Names of events and parameters do not begin so.
const RESERVED_PREFIXES: &[&str] = &["_", "firebase_", "ga_", "google_", "gtag."];

/// User properties that Google makes itself.
const RESERVED_PROPERTIES: &[&str] = &[
    "first_open_after_install",
    "first_open_time",
    "first_visit_time",
    "last_deep_link_referrer",
    "user_id",
];

/// Google drops events with longer names.
const MAX_EVENT_CHARS: usize = 40;

/// Google drops user properties with longer names.
const MAX_PROPERTY_CHARS: usize = 24;

/// A name as it is compared: lower case, blanks as underscores.
pub(super) fn folded(name: &str) -> String {
    name.to_lowercase().split_whitespace().collect::<Vec<_>>().join("_")
}

/// The name of an event: what Google does not take in names becomes an underscore.
///
/// # Errors
/// It is Google's own, or Google would drop the event.
pub(super) fn event_name(name: &str) -> Result<String, Reason> {
    let refuse = |why: &str| Err(Reason::new("invalid_event_name", format!("the event's name {why}")));
    let name = name.trim();
    if RESERVED_EVENTS.contains(&folded(name).as_str()) {
        return refuse("is one that Google Analytics keeps to itself: name it differently");
    }
    if has_reserved_prefix(&name.to_lowercase()) {
        return refuse("begins as those that Google Analytics keeps to itself: name it differently");
    }
    let words: Vec<&str> =
        name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let cleaned = if is_clean(name) { name.to_owned() } else { words.join("_") };
    if !cleaned.chars().next().is_some_and(char::is_alphabetic) {
        return refuse("does not begin with a letter: Google Analytics would drop it");
    }
    if cleaned.chars().count() > MAX_EVENT_CHARS {
        return refuse(&format!("is longer than the {MAX_EVENT_CHARS} characters of Google Analytics"));
    }
    Ok(cleaned)
}

fn is_clean(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn has_reserved_prefix(name: &str) -> bool {
    RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a parameter may be called so.
pub(super) fn is_param(name: &str) -> bool {
    !has_reserved_prefix(name)
}

/// Whether a user property may be called so.
pub(super) fn is_user_property(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_alphabetic)
        && name.chars().count() <= MAX_PROPERTY_CHARS
        && !RESERVED_PROPERTIES.contains(&name)
        && !has_reserved_prefix(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_to_fit_or_refused_with_a_reason() {
        let cases = [
            ("Sign Up", Ok("Sign_Up")),
            ("two  blanks - and a dash!", Ok("two_blanks_and_a_dash")),
            ("kept__as_it_is", Ok("kept__as_it_is")),
            ("Session Start", Err("keeps to itself")),
            ("GA_thing", Err("keeps to itself")),
            ("7 days", Err("letter")),
            ("a_name_of_more_than_the_forty_characters_", Err("longer")),
        ];
        for (name, expected) in cases {
            match (event_name(name), expected) {
                (Ok(made), Ok(expected)) => assert_eq!(made, expected),
                (Err(reason), Err(word)) => assert!(reason.message.contains(word), "{}", reason.message),
                (made, _) => assert!(made.is_err() == expected.is_err(), "{name}: {made:?}"),
            }
        }
    }
}
