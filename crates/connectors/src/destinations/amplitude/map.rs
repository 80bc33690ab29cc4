//! Events to Amplitude's requests: pure.
//!
//! | event | request |
//! |---|---|
//! | track, page, screen | an event, with the traits as user properties |
//! | identify, a row of reverse ETL | `$identify` |
//! | group | `$identify` with the group, and the group's properties |
//! | alias | a user mapping |
//! | a row that is gone | the user's deletion, where the settings say so |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_connector::{Document, HttpRequest, RequestBody};
use millrace_event_model::{ChangeOp, Reason};
use serde_json::{Map, Value, json};

use super::config::Settings;
use super::revenue::{self, Sale};
use super::{event, properties};
use crate::destinations::mapper::Mapper;
use crate::destinations::shared::fields::{at, missing, object, pick, pick_text, set, traits, unsupported};
use crate::destinations::shared::names::render;

/// The type of an event that only sets user properties.
const IDENTIFY: &str = "$identify";

/// Amplitude refuses ids shorter than this; theirs is 5, and short ids are common elsewhere.
const MIN_ID_LENGTH: u8 = 1;

/// What a group event is about.
struct Group {
    /// Its type, such as `company`.
    kind: String,
    /// Its name, or several.
    value: Value,
    /// What is known about it.
    properties: Option<Map<String, Value>>,
}

/// Amplitude, under these settings.
#[derive(Debug)]
pub(super) struct Amplitude {
    pub(super) settings: Settings,
}

impl Mapper for Amplitude {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        if document.op() == Some(ChangeOp::Delete) {
            return Ok(vec![self.delete(document)?]);
        }
        match document.event_type().as_str() {
            "identify" => self.identify(document),
            "track" => self.track(document),
            "page" => self.view(document, "Page", self.settings.page_event.as_deref(), &["name"]),
            "screen" => {
                self.view(document, "Screen", self.settings.screen_event.as_deref(), &["name", "event"])
            }
            "group" => self.group(document),
            "alias" => Ok(vec![self.alias(document)?]),
            other => Err(unsupported(other)),
        }
    }

    fn takes_deletes(&self) -> bool {
        self.settings.delete_users
    }
}

impl Amplitude {
    fn identify(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let mut event = event::base(document, &self.settings);
        let properties = properties::of_identify(document, &self.settings, &mut event);
        Ok(vec![self.event(event, IDENTIFY, properties)?])
    }

    fn track(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let name = pick_text(document, &["event"]).ok_or_else(|| missing("event"))?;
        let sales = revenue::split(object(document, "properties"), &self.settings);
        sales.into_iter().map(|sale| self.sale(document, &name, sale)).collect()
    }

    fn sale(&self, document: &Document, name: &str, sale: Sale) -> Result<HttpRequest, Reason> {
        let mut event = self.base_of_event(document);
        if document.get("properties").is_some() {
            event.insert("event_properties".to_owned(), Value::Object(sale.properties));
        }
        event.extend(sale.revenue);
        let mut name = name;
        if let Some(number) = sale.product {
            name = "Product Purchased";
            let id = pick_text(document, &["messageId"]).map(|id| format!("{id}-{number}"));
            set(&mut event, "insert_id", id);
        }
        self.event(event, name, properties::of_event(document))
    }

    /// A page or a screen.
    fn view(
        &self,
        document: &Document,
        what: &str,
        template: Option<&str>,
        names: &[&str],
    ) -> Result<Vec<HttpRequest>, Reason> {
        let name = pick_text(document, names)
            .or_else(|| pick_text(document, &["properties.category", "properties.name"]));
        let event_type = match template {
            Some(template) => render(template, &named(document, name.as_deref())),
            None => format!("Viewed {} {what}", name.as_deref().unwrap_or_default()),
        };
        if event_type.is_empty() {
            return Err(missing("the name of the page or screen"));
        }
        let mut event = self.base_of_event(document);
        let mut shown = object(document, "properties");
        set(&mut shown, "name", name);
        event.insert("event_properties".to_owned(), Value::Object(shown));
        Ok(vec![self.event(event, &event_type, properties::of_event(document))?])
    }

    fn group(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let Group { kind, value, properties: described } = self.named_group(document)?;
        let mut event = event::base(document, &self.settings);
        // Amplitude drops what has the id of something it had; twice in the same group is once.
        event.remove("insert_id");
        event.insert("groups".to_owned(), json!({ &kind: &value }));
        let mut properties = properties::origin(document);
        properties.insert(kind.clone(), value.clone());
        let member = self.event(event, IDENTIFY, properties)?;
        let mut group = Map::new();
        group.insert("group_type".to_owned(), json!(kind));
        group.insert("group_value".to_owned(), value);
        set(&mut group, "group_properties", described);
        Ok(vec![member, self.form("groupidentify", "identification", &Value::Object(group))])
    }

    /// By the traits that the settings name, else as the sender says under
    /// `integrations.Amplitude.groups`.
    fn named_group(&self, document: &Document) -> Result<Group, Reason> {
        let traits = traits(document);
        let by_trait = |path: &Option<String>| path.as_deref().and_then(|path| at(&traits, path)).cloned();
        let kind = by_trait(&self.settings.group_type_trait);
        let value = by_trait(&self.settings.group_value_trait);
        if let (Some(Value::String(kind)), Some(value @ (Value::String(_) | Value::Array(_)))) = (kind, value)
        {
            return Ok(Group { kind, value, properties: Some(object(document, "traits")) });
        }
        let told = |name: &str| pick(document, &[&format!("integrations.Amplitude.groups.{name}")]);
        match (told("group_type").and_then(Value::as_str), told("group_value")) {
            (Some(kind), Some(value)) => {
                Ok(Group { kind: kind.to_owned(), value: value.clone(), properties: None })
            }
            _ => Err(missing(
                "the group: the traits that group_type_trait and group_value_trait name, or \
                 integrations.Amplitude.groups",
            )),
        }
    }

    fn alias(&self, document: &Document) -> Result<HttpRequest, Reason> {
        let mut mapping = Map::new();
        if let Some(id) = pick_text(document, &["integrations.Amplitude.unmap"]) {
            mapping.insert("user_id".to_owned(), json!(id));
            mapping.insert("unmap".to_owned(), json!(true));
        } else {
            let known = pick_text(document, &["previousId"]).ok_or_else(|| missing("previousId"))?;
            let global = pick_text(document, &["userId"]).ok_or_else(|| missing("userId"))?;
            mapping.insert("user_id".to_owned(), json!(known));
            mapping.insert("global_user_id".to_owned(), json!(global));
        }
        let origin = properties::origin(document);
        if !origin.is_empty() {
            mapping.insert("user_properties".to_owned(), Value::Object(origin));
        }
        Ok(self.form("usermap", "mapping", &Value::Object(mapping)))
    }

    /// A user with all of their events.
    fn delete(&self, document: &Document) -> Result<HttpRequest, Reason> {
        let user = pick_text(document, &["userId"]).ok_or_else(|| missing("userId"))?;
        let secret = self.settings.secret_key.as_ref().ok_or_else(|| missing("the setting secret_key"))?;
        let credentials = STANDARD.encode(format!("{}:{}", self.settings.api_key.expose(), secret.expose()));
        let url = format!("{}/api/2/deletions/users", self.settings.region.analytics());
        let body = json!({ "user_ids": [user], "requester": "millrace", "ignore_invalid_id": "true" });
        let request = HttpRequest::post(url).header("authorization", format!("Basic {credentials}"));
        Ok(request.json(&body))
    }

    /// The base with the groups that the sender names for this event.
    fn base_of_event(&self, document: &Document) -> Map<String, Value> {
        let mut event = event::base(document, &self.settings);
        let groups = object(document, "integrations.Amplitude.groups");
        if !groups.is_empty() {
            event.insert("groups".to_owned(), Value::Object(groups));
        }
        event
    }

    fn event(
        &self,
        mut event: Map<String, Value>,
        event_type: &str,
        properties: Map<String, Value>,
    ) -> Result<HttpRequest, Reason> {
        if !event.contains_key("user_id") && !event.contains_key("device_id") {
            return Err(missing("userId and anonymousId: one of them"));
        }
        event.insert("event_type".to_owned(), json!(event_type));
        event.insert("user_properties".to_owned(), Value::Object(properties));
        let body = json!({
            "api_key": self.settings.api_key.expose(),
            "events": [event],
            "options": { "min_id_length": MIN_ID_LENGTH },
        });
        Ok(HttpRequest::post(format!("{}/2/httpapi", self.settings.region.api())).json(&body))
    }

    /// A request of the older APIs: a form with a JSON text in it.
    fn form(&self, path: &str, field: &str, content: &Value) -> HttpRequest {
        let mut request = HttpRequest::post(format!("{}/{path}", self.settings.region.api()));
        request.body = RequestBody::Form(vec![
            ("api_key".to_owned(), self.settings.api_key.expose().to_owned()),
            (field.to_owned(), content.to_string()),
        ]);
        request
    }
}

/// The event with its name where templates look for it.
fn named(document: &Document, name: Option<&str>) -> Document {
    let mut fields = document.fields().clone();
    if let Some(name) = name {
        fields.insert("name".to_owned(), json!(name));
    }
    Document::complete(fields)
}
