//! The `v1` API: an address for each person, one request for each operation.

use bytes::Bytes;
use millrace_connector::{HttpRequest, RequestBody};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::operation::{Device, Event, Operation, Person};
use crate::destinations::shared::urls::segment;

/// The request of an operation; the address without its host.
///
/// # Errors
/// An id that no address can hold.
pub(super) fn request(operation: &Operation) -> Result<HttpRequest, Reason> {
    let made = match operation {
        Operation::Identify { person, attributes } => {
            with("PUT", customer(person, "")?, Value::Object(attributes.clone()))
        }
        Operation::Delete { person } => HttpRequest::new("DELETE", customer(person, "")?),
        Operation::Event { person, event } => happened(person, event)?,
        Operation::AddDevice { person, device } => {
            with("PUT", customer(person, "/devices")?, json!({ "device": described(device) }))
        }
        Operation::DeleteDevice { person, token } => {
            let device = segment("context.device.token", token)?;
            HttpRequest::new("DELETE", customer(person, &format!("/devices/{device}"))?)
        }
        Operation::Merge { primary, secondary } => with(
            "POST",
            "/api/v1/merge_customers".to_owned(),
            json!({ "primary": primary.identifiers(), "secondary": secondary.identifiers() }),
        ),
        // Its requests are those of the other API.
        Operation::Object(_) => super::v2::request(operation),
    };
    Ok(made)
}

fn with(method: &str, path: String, body: Value) -> HttpRequest {
    let body = RequestBody::Json(Bytes::from(body.to_string()));
    HttpRequest { body, ..HttpRequest::new(method, path) }
}

/// The path of a person, and what is below it.
fn customer(person: &Person, below: &str) -> Result<String, Reason> {
    let id = segment("userId", person.known().unwrap_or_default())?;
    Ok(format!("/api/v1/customers/{id}{below}"))
}

fn happened(person: &Person, event: &Event) -> Result<HttpRequest, Reason> {
    let mut body = Map::from_iter([("type".to_owned(), Value::from(event.kind))]);
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("name", event.name.clone().map(Value::from));
    set("data", event.properties.clone());
    set("timestamp", event.at.map(Value::from));
    if let Person::Anonymous(id) = person {
        set("anonymous_id", Some(Value::from(id.as_str())));
        return Ok(with("POST", "/api/v1/events".to_owned(), Value::Object(body)));
    }
    Ok(with("POST", customer(person, "/events")?, Value::Object(body)))
}

/// The event's properties, and over them what a device must have.
fn described(device: &Device) -> Map<String, Value> {
    let mut fields = device.attributes.clone();
    fields.insert("id".to_owned(), Value::from(device.token.as_str()));
    if let Some(platform) = &device.platform {
        fields.insert("platform".to_owned(), Value::from(platform.as_str()));
    }
    if let Some(at) = device.last_used {
        fields.insert("last_used".to_owned(), at.into());
    }
    fields
}
