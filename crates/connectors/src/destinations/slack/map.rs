//! An event to a message: pure.

use millrace_connector::{Document, HttpRequest, RequestBody};
use millrace_event_model::Reason;
use millrace_transform::{Scope, Template};
use regex::Regex;
use serde_json::{Map, Value, json};

use super::config::{Channel, Settings};
use crate::declarative::LANGUAGE;
use crate::destinations::shared::fields::{missing, pick_text, traits, unsupported};
use crate::http::Mapper;

/// Where a name to call somebody by stands.
const NAMES: &[&str] = &[
    "traits.name",
    "context.traits.name",
    "traits.username",
    "context.traits.username",
    "traits.email",
    "context.traits.email",
    "userId",
    "anonymousId",
];

pub(super) struct Messages {
    settings: Settings,
    identify: Template,
    otherwise: Template,
    events: Vec<(Names, Template)>,
    channels: Vec<(Names, Channel)>,
}

/// Which events a setting is about.
enum Names {
    One(String),
    Like(Regex),
}

impl Names {
    fn new(name: &str, is_regex: bool) -> Result<Self, String> {
        if !is_regex {
            return Ok(Self::One(name.to_owned()));
        }
        let regex = Regex::new(name).map_err(|_| format!("the event {name:?} is no regular expression"))?;
        Ok(Self::Like(regex))
    }

    fn fit(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Like(regex) => regex.is_match(name),
        }
    }
}

impl Messages {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let template =
            |text: &str| LANGUAGE.template(text).map_err(|error| format!("the template {text:?}: {error}"));
        let mut events = Vec::new();
        for entry in &settings.events {
            events.push((Names::new(&entry.event, entry.regex)?, template(&entry.template)?));
        }
        let mut channels = Vec::new();
        for channel in &settings.channels {
            channels.push((Names::new(&channel.event, channel.regex)?, channel.clone()));
        }
        Ok(Self {
            identify: template(&settings.identify_template)?,
            otherwise: template("{{ name }} did {{ event }}")?,
            settings: settings.clone(),
            events,
            channels,
        })
    }

    fn text(&self, template: &Template, document: &Document) -> Result<String, Reason> {
        let name = json!(pick_text(document, NAMES).unwrap_or_default());
        let traits = json!(self.traits(document));
        let scope = Scope::new(document.fields(), &[("name", &name), ("traits", &traits)]);
        template.fill(&scope).map_err(|error| Reason::new("mapping_failed", format!("the template: {error}")))
    }

    /// `plan: pro city: Berlin `, of the traits that may be told.
    fn traits(&self, document: &Document) -> String {
        let traits: Map<String, Value> = traits(document);
        let named: Vec<&String> = match self.settings.traits.is_empty() {
            true => traits.keys().collect(),
            false => self.settings.traits.iter().collect(),
        };
        let told = named.into_iter().filter_map(|name| {
            let value = traits.get(name).filter(|value| !value.is_null())?;
            Some(format!("{name}: {} ", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        });
        told.collect()
    }
}

impl Mapper for Messages {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let event = document.text("event").unwrap_or_default();
        let (template, channel) = match document.event_type().as_str() {
            "identify" => (&self.identify, None),
            "track" if event.is_empty() => return Err(missing("event")),
            "track" => {
                let template = self.events.iter().find(|(names, _)| names.fit(event));
                let channel = self.channels.iter().find(|(names, _)| names.fit(event));
                (template.map_or(&self.otherwise, |(_, template)| template), channel.map(|(_, one)| one))
            }
            other => return Err(unsupported(other)),
        };
        let mut message = json!({ "text": self.text(template, document)? });
        let more = [
            ("username", &self.settings.username),
            ("icon_url", &self.settings.icon_url),
            ("channel", &channel.and_then(|channel| channel.channel.clone())),
        ];
        if let Some(fields) = message.as_object_mut() {
            for (name, value) in more {
                fields.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
            }
        }
        let webhook = channel.and_then(|channel| channel.webhook_url.as_ref());
        let url = webhook.unwrap_or(&self.settings.webhook_url).expose();
        let mut request = HttpRequest::post(url).header("content-type", "application/x-www-form-urlencoded");
        request.body = RequestBody::Form(vec![("payload".to_owned(), message.to_string())]);
        Ok(vec![request])
    }
}
