//! What other tools post, as an event: RudderStack's webhook source. The whole payload becomes the
//! `properties` of a `track` named `webhook_source_event` by somebody new; a connection's transformation
//! makes more of it. It is under the source's privacy policy like every event.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use futures::{FutureExt as _, future, stream};
use hyper::header::{self, HeaderMap};
use millrace_event_model::EventType;
use multer::Multipart;
use serde::Serialize;
use serde::de::IgnoredAny;
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

/// The event's JSON. What looks like JSON is JSON, whatever its type says: `curl -d` calls everything a form.
/// `most_fields`: of a form, in which a few bytes make a field that takes fifty times as many.
pub(crate) fn event(
    headers: &HeaderMap,
    body: &Bytes,
    most_fields: usize,
    anonymous_id: Uuid,
) -> Result<String, Refusal> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.to_ascii_lowercase();
    let is_multipart = media_type.contains("multipart/form-data");
    match body.trim_ascii().first() {
        None => written(anonymous_id, serde_json::Map::new()),
        Some(_) if is_multipart => {
            // The whole body is here: there is nothing that it could wait for.
            let form = multipart(content_type, body.clone(), most_fields).now_or_never();
            written(anonymous_id, form.unwrap_or(Err(Refusal::NotAForm))?)
        }
        Some(b'{' | b'[') => {
            let payload: &RawValue = serde_json::from_slice(body).map_err(|_| Refusal::InvalidJson)?;
            written(anonymous_id, payload)
        }
        Some(_) if media_type.contains("application/x-www-form-urlencoded") => {
            written(anonymous_id, fields_of(body, most_fields)?)
        }
        Some(_) => {
            let _scalar: IgnoredAny = serde_json::from_slice(body).map_err(|_| Refusal::InvalidJson)?;
            Err(Refusal::NotAnEvent)
        }
    }
}

/// Each field is a list of strings, since it may come twice.
type Fields = BTreeMap<String, Vec<String>>;

fn fields_of(body: &[u8], most: usize) -> Result<Fields, Refusal> {
    let mut fields = Fields::new();
    for (count, (name, value)) in form_urlencoded::parse(body).enumerate() {
        if count == most {
            return Err(Refusal::TooManyFields);
        }
        fields.entry(name.into_owned()).or_default().push(value.into_owned());
    }
    Ok(fields)
}

/// A form in parts, in the names of Go's `multipart.Form`, as RudderStack passes it on. Of a file there is
/// what describes it, not what is in it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Form {
    value: Fields,
    file: BTreeMap<String, Vec<File>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    filename: String,
    header: Fields,
    size: usize,
}

async fn multipart(content_type: &str, body: Bytes, most_fields: usize) -> Result<Form, Refusal> {
    let boundary = multer::parse_boundary(content_type)?;
    let whole = stream::once(future::ready(Ok::<_, Infallible>(body)));
    let mut parts = Multipart::new(whole, boundary);
    let mut form = Form::default();
    let mut count = 0;
    while let Some(part) = parts.next_field().await? {
        count += 1;
        if count > most_fields {
            return Err(Refusal::TooManyFields);
        }
        let Some(name) = part.name().map(str::to_owned) else { continue };
        let Some(filename) = part.file_name().map(str::to_owned) else {
            let text = String::from_utf8_lossy(&part.bytes().await?).into_owned();
            form.value.entry(name).or_default().push(text);
            continue;
        };
        let mut header = Fields::new();
        for (name, value) in part.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            header.entry(canonical(name.as_str())).or_default().push(value);
        }
        let size = part.bytes().await?.len();
        form.file.entry(name).or_default().push(File { filename, header, size });
    }
    Ok(form)
}

impl From<multer::Error> for Refusal {
    fn from(_: multer::Error) -> Self {
        Self::NotAForm
    }
}

/// `Content-Type` for `content-type`.
fn canonical(name: &str) -> String {
    let mut starts = true;
    let letters = name.chars().map(|ch| {
        let letter = if starts { ch.to_ascii_uppercase() } else { ch };
        starts = ch == '-';
        letter
    });
    letters.collect()
}

fn written(anonymous_id: Uuid, properties: impl Serialize) -> Result<String, Refusal> {
    let event = WebhookEvent { r#type: EVENT_TYPE.as_str(), event: EVENT_NAME, anonymous_id, properties };
    serde_json::to_string(&event).map_err(|_| Refusal::InvalidJson)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: &str = "multipart/form-data; boundary=X";

    #[test]
    fn a_payload_becomes_the_properties_of_an_event() {
        let parts = concat!(
            "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n",
            "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n2\r\n",
            "--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\n",
            "abc\r\n--X--\r\n"
        );
        let form = concat!(
            r#"{"Value":{"a":["1","2"]},"File":{"f":[{"Filename":"x.txt","Header":"#,
            r#"{"Content-Disposition":["form-data; name=\"f\"; filename=\"x.txt\""],"Content-Type":["text/plain"]},"#,
            r#""Size":3}]}}"#
        );
        for (content_type, body, properties) in [
            ("application/json", r#"{"a": 1.50, "b":[null]}"#, Ok(r#"{"a": 1.50, "b":[null]}"#)),
            ("", r#" [1,2] "#, Ok("[1,2]")),
            ("text/plain", "", Ok("{}")),
            ("application/x-www-form-urlencoded", "a=1&b=x+y&a=%C3%A9", Ok(r#"{"a":["1","é"],"b":["x y"]}"#)),
            ("Application/X-WWW-Form-Urlencoded; charset=utf-8", "a", Ok(r#"{"a":[""]}"#)),
            ("application/x-www-form-urlencoded", "", Ok("{}")),
            ("application/x-www-form-urlencoded", r#"{"a":1}"#, Ok(r#"{"a":1}"#)),
            ("application/x-www-form-urlencoded", "{a=1", Err(Refusal::InvalidJson)),
            ("application/x-www-form-urlencoded", "a&a&b&b", Err(Refusal::TooManyFields)),
            (FORM, &parts.replace("--X--", parts), Err(Refusal::TooManyFields)),
            (FORM, parts, Ok(form)),
            (FORM, "--X--\r\n", Ok(r#"{"Value":{},"File":{}}"#)),
            (FORM, "a=1", Err(Refusal::NotAForm)),
            (FORM, &parts[..parts.len() - 12], Err(Refusal::NotAForm)),
            ("multipart/form-data", parts, Err(Refusal::NotAForm)),
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
            assert_eq!(
                event(&headers, &Bytes::copy_from_slice(body.as_bytes()), 3, Uuid::nil()),
                expected,
                "{body}"
            );
        }
    }
    proptest! {
        #[test]
        fn any_body_makes_an_event_or_a_refusal(
            body in prop_oneof![any::<Vec<u8>>(), "(--X|\r\n|Content-Disposition: form-data; name=a|[a-z=&;\"])*".prop_map(String::into_bytes)],
            content_type in prop_oneof![Just(FORM), Just("application/x-www-form-urlencoded"), Just("")],
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            if let Ok(event) = event(&headers, &body.into(), 10_000, Uuid::nil()) {
                let event: serde_json::Value = serde_json::from_str(&event).unwrap();
                prop_assert!(event["properties"].is_object() || event["properties"].is_array());
            }
        }
    }
}
