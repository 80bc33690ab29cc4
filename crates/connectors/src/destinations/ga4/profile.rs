//! What is true of the Measurement Protocol.

use serde_json::Value;

use super::config::Settings;
use crate::http::{Answer, Call, Check, Class, Profile, Verdict};

/// The hosts that take events.
const HOSTS: [&str; 2] = ["www.google-analytics.com", "region1.google-analytics.com"];

pub(super) fn profile(settings: &Settings) -> Profile {
    Profile {
        // Each event says when it happened.
        ordered: false,
        hosts: HOSTS.map(str::to_owned).to_vec(),
        read: Some(read),
        ..Profile::new(Check::Reach(settings.url().to_owned()))
    }
}

/// The validation server's answer: well, with a list of what is not. Only the names of rules and fields are
/// told: its sentences quote values.
fn read(answer: &Answer, call: &Call) -> Option<Vec<Verdict>> {
    if answer.status != 200 {
        return None;
    }
    let body = answer.json()?;
    let first = body.get("validationMessages")?.as_array()?.first()?;
    let text = |name: &str| first.get(name).and_then(Value::as_str);
    let rule = text("validationCode").unwrap_or("not valid");
    let field = text("fieldPath").map(|field| format!(" at {field}")).unwrap_or_default();
    Some(vec![(Class::Rejected, Some(format!("{rule}{field}"))); call.items.len()])
}
