//! The `v2` API: every operation is an entry of a list. A request of one operation has that as its body;
//! whoever sends puts it into the list.

use bytes::Bytes;
use millrace_connector::{HttpRequest, RequestBody};
use serde_json::{Map, Value, json};

use super::operation::{Device, Event, Object, Operation, Person};

/// Where all of them go.
pub(super) const PATH: &str = "/api/v2/batch";

/// The request of an operation; the address without its host.
pub(super) fn request(operation: &Operation) -> HttpRequest {
    let body = RequestBody::Json(Bytes::from(entry(operation).to_string()));
    HttpRequest { body, ..HttpRequest::post(PATH) }
}

fn entry(operation: &Operation) -> Value {
    match operation {
        Operation::Identify { person, attributes } => {
            let mut entry = of(person, "identify");
            entry.insert("attributes".to_owned(), Value::Object(attributes.clone()));
            Value::Object(entry)
        }
        Operation::Delete { person } => Value::Object(of(person, "delete")),
        Operation::Event { person, event } => Value::Object(happened(person, event)),
        Operation::AddDevice { person, device } => {
            let mut entry = of(person, "add_device");
            entry.insert("device".to_owned(), described(device));
            Value::Object(entry)
        }
        Operation::DeleteDevice { person, token } => {
            let mut entry = of(person, "delete_device");
            entry.insert("device".to_owned(), json!({ "token": token }));
            Value::Object(entry)
        }
        Operation::Merge { primary, secondary } => json!({
            "type": "person",
            "action": "merge",
            "primary": primary.identifiers(),
            "secondary": secondary.identifiers(),
        }),
        Operation::Object(group) => object(group),
    }
}

fn of(person: &Person, action: &str) -> Map<String, Value> {
    Map::from_iter([
        ("type".to_owned(), Value::from("person")),
        ("action".to_owned(), Value::from(action)),
        ("identifiers".to_owned(), person.identifiers()),
    ])
}

fn happened(person: &Person, event: &Event) -> Map<String, Value> {
    let mut entry = of(person, event.kind);
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry.insert(name.to_owned(), value);
        }
    };
    set("name", event.name.clone().map(Value::from));
    set("attributes", event.properties.clone());
    set("timestamp", event.at.map(Value::from));
    entry
}

fn described(device: &Device) -> Value {
    let mut attributes = device.context.clone();
    attributes.extend(device.attributes.clone());
    let mut fields = Map::from_iter([
        ("token".to_owned(), Value::from(device.token.as_str())),
        ("attributes".to_owned(), Value::Object(attributes)),
    ]);
    if let Some(platform) = &device.platform {
        fields.insert("platform".to_owned(), Value::from(platform.as_str()));
    }
    if let Some(at) = device.last_used {
        fields.insert("last_used".to_owned(), at.into());
    }
    Value::Object(fields)
}

fn object(group: &Object) -> Value {
    let members: Vec<Value> =
        group.member.iter().map(|member| json!({ "identifiers": member.identifiers() })).collect();
    json!({
        "type": "object",
        "action": group.action,
        "identifiers": { "object_id": group.id, "object_type_id": group.type_id },
        "attributes": group.attributes,
        "cio_relationships": members,
    })
}
