//! A company, a team and the like, as Mixpanel's group profile.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::map::Mixpanel;
use crate::destinations::shared::fields::{at, missing, object, pick, says_something};

/// For each group key that the traits have: the person's membership, then each group's profile.
pub(super) fn requests(mixpanel: &Mixpanel, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
    let token = mixpanel.settings.token.expose();
    let traits = object(document, "traits");
    let mut requests = Vec::new();
    for key in &mixpanel.settings.group_keys {
        let ids = match at(&traits, key).filter(|value| says_something(value)) {
            Some(Value::Array(ids)) => ids.clone(),
            Some(id) => vec![id.clone()],
            None => continue,
        };
        let mut membership = Map::new();
        membership.insert("$token".to_owned(), token.into());
        membership.insert("$distinct_id".to_owned(), mixpanel.distinct_id(document)?.into());
        membership.insert("$set".to_owned(), json!({key: ids}));
        membership.extend(pick(document, &["context.ip"]).map(|ip| ("$ip".to_owned(), ip.clone())));
        requests.push(mixpanel.engage(&Value::Object(membership)));
        for id in ids {
            let profile = json!({"$token": token, "$group_key": key, "$group_id": id, "$set": traits});
            requests.push(mixpanel.groups(&profile));
        }
    }
    match requests.is_empty() {
        false => Ok(requests),
        true => Err(missing("a trait that is one of the group_keys of the settings")),
    }
}
