//! An event as what Customer.io is to do.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::{ChangeOp, Reason};
use serde_json::{Map, Value};

use super::config::{Region, Settings};
use super::operation::{Device, Event, Object, Operation, Person};
use super::{v1, v2};
use crate::destinations::mapper::Mapper;
use crate::destinations::shared::fields::{EMAIL, USER_ID, missing, object, pick_text, text, unsupported};
use crate::destinations::shared::times;

/// The mapping of one workspace.
pub(super) struct CustomerIo {
    authorization: String,
    region: Region,
    device_token_event: Option<String>,
    batch: bool,
}

impl CustomerIo {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            authorization: settings.authorization(),
            region: settings.region,
            device_token_event: settings.device_token_event.clone(),
            batch: settings.batch,
        }
    }
}

impl Mapper for CustomerIo {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let operation = self.operation(document)?;
        let request = match (&operation, self.batch) {
            (_, true) => v2::request(&operation),
            (Operation::Object(_), false) => v2::request(&operation),
            _ => v1::request(&operation)?,
        };
        let url = format!("{}{}", self.region.origin(), request.url);
        Ok(vec![HttpRequest { url, ..request }.header("authorization", self.authorization.as_str())])
    }

    fn takes_deletes(&self) -> bool {
        true
    }
}

/// These register a device, where they tell its token and whose it is.
const DEVICE_EVENTS: [&str; 2] = ["Application Installed", "Application Opened"];

/// This takes it out again.
const UNINSTALLED: &str = "Application Uninstalled";

impl CustomerIo {
    fn operation(&self, document: &Document) -> Result<Operation, Reason> {
        if document.op() == Some(ChangeOp::Delete) {
            return Ok(Operation::Delete { person: known(document).ok_or_else(nobody)? });
        }
        match document.event_type().as_str() {
            "identify" => identify(document),
            "track" => self.track(document),
            "page" => {
                let name = pick_text(document, &["name", "properties.url"]);
                event(document, "page", name)
            }
            "screen" => {
                let screen = pick_text(document, &["event", "name", "properties.name"]);
                event(document, "event", screen.map(|name| format!("Viewed {name} Screen")))
            }
            "alias" => merge(document),
            "group" => group(document),
            other => Err(unsupported(other)),
        }
    }

    fn track(&self, document: &Document) -> Result<Operation, Reason> {
        let name = document.text("event").filter(|name| !name.is_empty()).ok_or_else(|| missing("event"))?;
        let token = pick_text(document, &["context.device.token"]);
        if name == UNINSTALLED {
            let person = known(document).ok_or_else(nobody)?;
            let token = token.ok_or_else(|| missing("context.device.token"))?;
            return Ok(Operation::DeleteDevice { person, token });
        }
        let registers = DEVICE_EVENTS.contains(&name) || self.device_token_event.as_deref() == Some(name);
        if let (true, Some(token), Some(person)) = (registers, token, known(document)) {
            return Ok(Operation::AddDevice { person, device: device(document, token) });
        }
        event(document, "event", Some(name.to_owned()))
    }
}

/// A person who is known: by id, else by e-mail address.
fn known(document: &Document) -> Option<Person> {
    let id = pick_text(document, USER_ID).map(Person::Id);
    id.or_else(|| pick_text(document, EMAIL).map(Person::Email))
}

fn nobody() -> Reason {
    missing("userId or traits.email")
}

/// When it happened, in seconds since 1970 UTC.
fn seconds(document: &Document) -> Option<i64> {
    times::happened(document).map(|millis| millis.div_euclid(1_000))
}

fn identify(document: &Document) -> Result<Operation, Reason> {
    let person = known(document).ok_or_else(nobody)?;
    let mut traits = object(document, "traits");
    if traits.is_empty() {
        traits = object(document, "context.traits");
    }
    let mut attributes = Map::new();
    if let Some(Value::Object(address)) = traits.remove("address") {
        attributes.extend(address);
    }
    // Who it is stands elsewhere.
    traits.retain(|name, _| !matches!(name.as_str(), "anonymousId" | "userId"));
    if let Some(created) = traits.get("createdAt") {
        attributes.insert("created_at".to_owned(), created_at(created));
    }
    attributes.extend(traits);
    attributes.extend(object(document, "user_properties"));
    if let Some(at) = seconds(document) {
        attributes.insert("_timestamp".to_owned(), at.into());
    }
    // By it Customer.io gives the person the events of before.
    if let Some(anonymous) = pick_text(document, &["anonymousId"]) {
        attributes.insert("anonymous_id".to_owned(), anonymous.into());
    }
    Ok(Operation::Identify { person, attributes })
}

/// Customer.io takes seconds since 1970 for a moment; what is none stays as it is.
fn created_at(value: &Value) -> Value {
    match value.as_str().and_then(millrace_event_model::parse_moment) {
        Some(micros) => micros.div_euclid(1_000_000).into(),
        None => value.clone(),
    }
}

fn event(document: &Document, kind: &'static str, name: Option<String>) -> Result<Operation, Reason> {
    let properties = document.get("properties").cloned();
    let at = seconds(document);
    if let Some(person) = known(document) {
        return Ok(Operation::Event { person, event: Event { kind, name, properties, at } });
    }
    let anonymous = pick_text(document, &["anonymousId"])
        .ok_or_else(|| missing("userId, traits.email or anonymousId"))?;
    let name = name.ok_or_else(|| missing("the name of the page or screen"))?;
    let name = Some(shortened(&name).to_owned());
    let event = Event { kind, name, properties, at };
    Ok(Operation::Event { person: Person::Anonymous(anonymous), event })
}

/// So long names of events of people who are not known may be, in bytes; longer ones are cut.
const ANONYMOUS_NAME_BYTES: usize = 100;

fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(ANONYMOUS_NAME_BYTES)).unwrap_or(name)
}

/// Where the attributes of a device stand in an event's context, by Customer.io's names.
const DEVICE_CONTEXT: [(&str, &str); 4] = [
    ("device_os", "context.os.name"),
    ("device_model", "context.device.model"),
    ("app_version", "context.app.version"),
    ("device_locale", "context.locale"),
];

/// All that Customer.io calls `ios`.
const APPLE: [&str; 4] = ["ios", "ipados", "tvos", "watchos"];

fn device(document: &Document, token: String) -> Device {
    let platform = pick_text(document, &["context.device.type"]).map(|platform| platform.to_lowercase());
    let platform = platform.map(|name| if APPLE.contains(&name.as_str()) { "ios".to_owned() } else { name });
    let mut context = Map::new();
    for (name, path) in DEVICE_CONTEXT {
        if let Some(text) = pick_text(document, &[path]) {
            context.insert(name.to_owned(), text.into());
        }
    }
    let attributes = object(document, "properties");
    Device { token, platform, last_used: seconds(document), attributes, context }
}

fn merge(document: &Document) -> Result<Operation, Reason> {
    let id = |path: &str| pick_text(document, &[path]).map(Person::by_shape).ok_or_else(|| missing(path));
    Ok(Operation::Merge { primary: id("userId")?, secondary: id("previousId")? })
}

/// What may be done with an object besides [`IDENTIFY`].
const OBJECT_ACTIONS: [&str; 4] =
    ["identify_anonymous", "add_relationships", "delete_relationships", "delete"];

/// What is done with an object where the event does not say.
const IDENTIFY: &str = "identify";

/// The first type of objects that a workspace has.
const FIRST_TYPE: &str = "1";

fn group(document: &Document) -> Result<Operation, Reason> {
    let id = pick_text(document, &["groupId"]).ok_or_else(|| missing("groupId"))?;
    let mut attributes = object(document, "traits");
    let type_id = attributes.remove("objectTypeId").as_ref().and_then(text);
    let asked = attributes.remove("action");
    let action =
        OBJECT_ACTIONS.iter().find(|action| asked.as_ref().and_then(Value::as_str) == Some(**action));
    let member = pick_text(document, USER_ID).or_else(|| pick_text(document, &["context.traits.email"]));
    Ok(Operation::Object(Object {
        id,
        type_id: type_id.unwrap_or_else(|| FIRST_TYPE.to_owned()),
        action: action.copied().unwrap_or(IDENTIFY),
        attributes,
        member: member.map(Person::by_shape),
    }))
}
