//! What other tools post, as an event: RudderStack's webhook source. The whole payload becomes the
//! `properties` of a `track` named `webhook_source_event` by somebody new; a connection's transformation
//! makes more of it. It is under the source's privacy policy like every event.

use std::collections::BTreeMap;

use hyper::header::{self, HeaderMap};
use millrace_event_model::EventType;
use serde::Serialize;
use serde_json::value::RawValue;
use url::form_urlencoded;
use uuid::Uuid;

use crate::error::Refusal;

/// What every webhook becomes.
pub(crate) const EVENT_TYPE: EventType = EventType::Track;

const EVENT_NAME: &str = "webhook_source_event";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookEvent<P> {
    r#type: &'static str,
    event: &'static str,
    anonymous_id: Uuid,
    properties: P,
}

/// The event's JSON. Of a form each field is a list of strings, since it may come twice.
pub(crate) fn event(headers: &HeaderMap, body: &[u8], anonymous_id: Uuid) -> Result<String, Refusal> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.to_ascii_lowercase().contains("application/x-www-form-urlencoded") && !body.is_empty() {
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            fields.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        return written(anonymous_id, fields);
    }
    if body.trim_ascii().is_empty() {
        return written(anonymous_id, BTreeMap::<String, String>::new());
    }
    let payload: &RawValue = serde_json::from_slice(body).map_err(|_| Refusal::InvalidJson)?;
    if !payload.get().starts_with(['{', '[']) {
        return Err(Refusal::NotAnEvent);
    }
    written(anonymous_id, payload)
}

fn written(anonymous_id: Uuid, properties: impl Serialize) -> Result<String, Refusal> {
    let event = WebhookEvent { r#type: EVENT_TYPE.as_str(), event: EVENT_NAME, anonymous_id, properties };
    serde_json::to_string(&event).map_err(|_| Refusal::InvalidJson)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_payload_becomes_the_properties_of_an_event() {
        for (content_type, body, properties) in [
            ("application/json", r#"{"a": 1.50, "b":[null]}"#, Ok(r#"{"a": 1.50, "b":[null]}"#)),
            ("", r#" [1,2] "#, Ok("[1,2]")),
            ("text/plain", "", Ok("{}")),
            ("application/x-www-form-urlencoded", "a=1&b=x+y&a=%C3%A9", Ok(r#"{"a":["1","é"],"b":["x y"]}"#)),
            ("Application/X-WWW-Form-Urlencoded; charset=utf-8", "a", Ok(r#"{"a":[""]}"#)),
            ("application/x-www-form-urlencoded", "", Ok("{}")),
            ("application/json", "a=1", Err(Refusal::InvalidJson)),
            ("application/json", "12", Err(Refusal::NotAnEvent)),
            ("application/json", "\"x\"", Err(Refusal::NotAnEvent)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            let expected = properties.map(|properties| {
                format!(
                    r#"{{"type":"track","event":"webhook_source_event","anonymousId":"{}","properties":{properties}}}"#,
                    Uuid::nil()
                )
            });
            assert_eq!(event(&headers, body.as_bytes(), Uuid::nil()), expected, "{body}");
        }
    }
}
