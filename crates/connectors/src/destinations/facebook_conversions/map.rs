//! An event as one of Meta's.

use millrace_connector::{Document, HttpRequest, RequestBody};
use millrace_event_model::Reason;
use serde_json::{Map, Value};

use super::config::{ActionSource, Settings};
use super::event::{Named, name};
use super::{GRAPH, app, content, custom, person};
use crate::destinations::mapper::Mapper;
use crate::destinations::shared::fields::{Line, fill, integration, missing, pick, pick_text};
use crate::destinations::shared::times;

/// The mapping of one dataset.
pub(super) struct Conversions {
    settings: Settings,
}

impl Conversions {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone() }
    }
}

impl Mapper for Conversions {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let event = Value::Object(self.event(document)?);
        let mut form = vec![("data".to_owned(), Value::Array(vec![event]).to_string())];
        if let Some(code) = &self.settings.test_event_code {
            form.push(("test_event_code".to_owned(), code.clone()));
        }
        let mut request = HttpRequest::post(format!("{GRAPH}/{}/events", self.settings.dataset_id))
            .query("access_token", self.settings.access_token.expose());
        request.body = RequestBody::Form(form);
        Ok(vec![request])
    }
}

/// What says more about an event, by Meta's names.
const EVENT: &[Line] = &[
    ("event_id", &["properties.event_id", "traits.event_id", "context.traits.event_id", "messageId"]),
    ("event_source_url", &["context.page.url", "properties.url"]),
    ("opt_out", &["properties.opt_out", "context.traits.opt_out"]),
];

/// Under this name an event says in `integrations` what is meant for this destination alone.
const INTEGRATION: &str = "facebook_conversions";

impl Conversions {
    fn event(&self, document: &Document) -> Result<Map<String, Value>, Reason> {
        let settings = &self.settings;
        let Named { name, content } = name(document, &settings.events)?;
        let options = integration(document, INTEGRATION);
        // The client has hashed what is personal.
        let hashed = options.and_then(|options| options.get("hashed")) == Some(&Value::Bool(true));
        let source = action_source(document, settings.action_source);
        let mut custom = custom::properties(document, settings, hashed);
        if content.is_some() && custom.is_empty() {
            return Err(missing("properties"));
        }
        custom::worth(document, &mut custom)?;
        if let Some(kind) = content {
            let asked = options.and_then(|options| options.get("contentType")).and_then(Value::as_str);
            content::describe(document, kind, asked, &settings.content_types, &mut custom);
        }
        let mut event = Map::new();
        event.insert("event_name".to_owned(), name.into());
        event.insert("event_time".to_owned(), event_time(document, source)?.into());
        event.insert("action_source".to_owned(), source.name().into());
        fill(&mut event, document, EVENT);
        let person = person::describe(document, settings.external_id, hashed);
        if person.is_empty() {
            return Err(missing("anything that tells who it was, such as traits.email or context.ip,"));
        }
        event.insert("user_data".to_owned(), Value::Object(person));
        if source == ActionSource::App {
            event.insert("app_data".to_owned(), Value::Object(app::describe(document)));
        }
        if settings.limited_data_use {
            event.extend(data_processing(document));
        }
        event.insert("custom_data".to_owned(), Value::Object(custom));
        Ok(event)
    }
}

fn action_source(document: &Document, default: ActionSource) -> ActionSource {
    let said = pick_text(
        document,
        &["properties.action_source", "traits.action_source", "context.traits.action_source"],
    );
    said.as_deref().and_then(ActionSource::named).unwrap_or(default)
}

const SECONDS_PER_DAY: i64 = 86_400;

/// When it happened, in seconds since 1970 UTC. What was too old when it arrived Meta would refuse, and with
/// it all others of its batch.
fn event_time(document: &Document, source: ActionSource) -> Result<i64, Reason> {
    let at = times::happened(document).ok_or_else(|| missing("timestamp"))?.div_euclid(1_000);
    let days = if source == ActionSource::PhysicalStore { 62 } else { 7 };
    let received = document.text("receivedAt").and_then(millrace_event_model::parse_moment);
    match received.map(|micros| micros.div_euclid(1_000_000)) {
        Some(received) if received - at > days * SECONDS_PER_DAY => Err(Reason::new(
            "too_old",
            format!("it was more than {days} days old when it came in, and Meta takes none older"),
        )),
        _ => Ok(at),
    }
}

/// What Meta may do with the data, as the event says: a list of options, country and state.
fn data_processing(document: &Document) -> Map<String, Value> {
    const NAMES: [&str; 3] =
        ["data_processing_options", "data_processing_options_country", "data_processing_options_state"];
    let said = pick(document, &["context.dataProcessingOptions"]).and_then(Value::as_array);
    let said = said.map(Vec::as_slice).unwrap_or_default();
    NAMES.iter().zip(said).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}
