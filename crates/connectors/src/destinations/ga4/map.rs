//! Events to requests of the Measurement Protocol: pure.
//!
//! | event | of Google's |
//! |---|---|
//! | track | an event of the e-commerce specification by Google's name for it, any other by its own |
//! | page, screen | `page_view`, `screen_view` |
//! | group | `join_group` |
//! | identify, a row of reverse ETL | the event that the settings name, with user properties |

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::{Settings, Stream};
use super::names::event_name;
use super::standard::standard;
use super::{params, user};
use crate::destinations::mapper::Mapper;
use crate::destinations::shared::fields::{missing, object, pick, pick_text, unsupported};
use crate::destinations::shared::times::{first_moment, happened};

/// Google drops events that are older than this when they arrive.
const MAX_AGE_HOURS: i64 = 72;

/// Google drops what is longer.
const MAX_BODY_BYTES: usize = 130_000;

/// An event's name with its parameters.
type Named = (String, Map<String, Value>);

/// Google Analytics 4, under these settings.
#[derive(Debug)]
pub(super) struct Analytics {
    settings: Settings,
}

impl Analytics {
    /// Checks what the settings' types cannot say.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub(super) fn new(settings: Settings) -> Result<Self, String> {
        settings.stream()?;
        if let Some(name) = &settings.identify_event {
            event_name(name).map_err(|reason| format!("identify_event: {}", reason.message))?;
        }
        Ok(Self { settings })
    }

    fn event(&self, document: &Document) -> Result<Option<Named>, Reason> {
        let properties = object(document, "properties");
        Ok(match document.event_type().as_str() {
            "track" => Some(track(document, &properties)?),
            "page" if self.settings.block_page_views => None,
            "page" => {
                Some(("page_view".to_owned(), params::of_page(document, self.settings.extend_page_views)))
            }
            "screen" => {
                let mut shown = params::of_custom(document, &properties);
                if let Some(name) = pick_text(document, &["name", "event", "properties.name"]) {
                    shown.insert("screen_name".to_owned(), json!(name));
                }
                Some(("screen_view".to_owned(), shown))
            }
            "group" => {
                let mut joined = params::of_custom(document, &object(document, "traits"));
                if let Some(group) = pick_text(document, &["groupId"]) {
                    joined.insert("group_id".to_owned(), json!(group));
                }
                Some(("join_group".to_owned(), joined))
            }
            "identify" => match &self.settings.identify_event {
                Some(name) => Some((event_name(name)?, params::of_custom(document, &properties))),
                None => None,
            },
            other => return Err(unsupported(other)),
        })
    }
}

fn track(document: &Document, properties: &Map<String, Value>) -> Result<Named, Reason> {
    let name = pick(document, &["event"]).ok_or_else(|| missing("event"))?;
    let name = name.as_str().ok_or_else(|| Reason::new("invalid_event_name", "event is no text"))?;
    if let Some((standard, strict)) = standard(name) {
        let params = params::of_standard(document, properties, standard, strict)?;
        return Ok((standard.event.to_owned(), params));
    }
    let name = event_name(name)?;
    let params = match name.as_str() {
        "campaign_details" => params::of_campaign(document, properties),
        _ => params::of_custom(document, properties),
    };
    Ok((name, params))
}

impl Mapper for Analytics {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let Some((name, params)) = self.event(document)? else { return Ok(Vec::new()) };
        refuse_if_old(document)?;
        let stream = self.settings.stream().map_err(|problem| Reason::new("invalid_settings", problem))?;
        let mut body = user::of(document, stream, &self.settings)?;
        body.insert("events".to_owned(), json!([{ "name": name, "params": params }]));
        let request =
            HttpRequest::post(self.settings.url()).query("api_secret", self.settings.api_secret.expose());
        let request = match stream {
            Stream::Web(id) => request.query("measurement_id", id),
            Stream::App(id) => request.query("firebase_app_id", id),
        };
        let request = request.json(&Value::Object(body));
        if request.body.len() > MAX_BODY_BYTES {
            let told = format!("it is longer than the {MAX_BODY_BYTES} bytes that Google takes");
            return Err(Reason::new("too_large", told));
        }
        Ok(vec![request])
    }
}

/// By the time of its arrival here, since a mapping has no clock: what waits longer on the way from here
/// is dropped by Google without a word.
fn refuse_if_old(document: &Document) -> Result<(), Reason> {
    let (Some(happened), Some(received)) = (happened(document), first_moment(document, &["receivedAt"]))
    else {
        return Ok(());
    };
    if received - happened > MAX_AGE_HOURS * 60 * 60 * 1_000 {
        let told =
            format!("it happened more than {MAX_AGE_HOURS} hours before it arrived: Google would drop it");
        return Err(Reason::new("too_old", told));
    }
    Ok(())
}
