//! The half that all destinations which speak HTTP share: whoever adds one writes what an item looks like
//! over there (a [`Mapper`], pure) and what is true of the vendor's API (a [`Profile`], data), and nothing
//! that sends, waits, retries or reads answers.
//!
//! ```text
//! items ──Mapper──► requests ──call::plan──► calls ──Client──► answers ──judge──► one outcome per item
//! ```
//!
//! A destination in Rust is an [`HttpEntry`], one line in `registry.rs`:
//! ```
//! use millrace_connectors::http::{Check, HttpEntry, Join, JoinRule, Mapper, Profile};
//! # use millrace_connector::{DestinationEntry, Document, HttpRequest};
//! # use millrace_event_model::Reason;
//! # use millrace_service::Secret;
//! # use serde_json::json;
//! /// Contacts of Acme CRM.
//! #[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     /// The key of the workspace, from Settings, API keys.
//!     api_key: Secret,
//! }
//! struct Acme(Settings);
//! impl Mapper for Acme {
//!     fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
//!         let Some(id) = document.text("userId") else {
//!             return Err(Reason::new("missing_field", "userId is missing"));
//!         };
//!         let request = HttpRequest::post("https://api.acme.test/contacts")
//!             .header("authorization", format!("Bearer {}", self.0.api_key.expose()));
//!         Ok(vec![request.json(&json!({ "contacts": [{ "id": id }] }))])
//!     }
//! }
//! pub fn entry() -> DestinationEntry {
//!     HttpEntry {
//!         kind: "acme",
//!         summary: "Contacts of Acme CRM",
//!         mapper: |settings: &Settings| Ok(Box::new(Acme(settings.clone()))),
//!         profile: |_| Profile {
//!             max_items: 100,
//!             joins: JoinRule::all(Join::arrays(&["contacts"], 100)),
//!             hosts: vec!["api.acme.test".to_owned()],
//!             ..Profile::new(Check::Reach("https://api.acme.test/".to_owned()))
//!         },
//!         rudder: None,
//!     }
//!     .entry()
//! }
//! # assert_eq!(entry().kind, "acme");
//! ```
//! Every entry has the settings `allow_private` and `origin` besides its own: a test points `origin` at a
//! server of its own.

mod auth;
mod call;
mod client;
mod destination;
pub(crate) mod guard;
mod judge;
mod limiter;
pub(crate) mod path;
mod profile;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
pub(crate) mod xml;

use std::sync::Arc;

use millrace_connector::{DestinationEntry, DisplayName};
use millrace_event_model::Reason;
use millrace_service::SystemClock;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use crate::destinations::mapper::Mapper;
pub use call::Call;
pub use client::{Answer, Client, Reach};
pub use destination::HttpDestination;
pub use guard::Private;
pub use judge::{judge, unanswered};
pub use profile::{
    AnswerRule, Check, Class, Find, ItemResults, Join, JoinRule, OAuth2, Predicate, Profile, ReadAnswer,
    Signer, Verdict,
};

/// Makes our settings of RudderStack's `Config`. The error names the option that is missing, or cannot be
/// had here.
pub type FromRudder = fn(&Value) -> Result<Value, Reason>;

/// An HTTP destination in Rust. `S` are its settings: their doc comments are the reference page, their
/// secrets of type [`millrace_service::Secret`].
pub struct HttpEntry<S> {
    /// As `kind:` in the config spells it.
    pub kind: &'static str,
    /// A line for people.
    pub summary: &'static str,
    /// The mapper of these settings. The error says which setting is wrong and what to do, without values.
    pub mapper: fn(&S) -> Result<Box<dyn Mapper>, String>,
    /// The vendor's API, with these settings.
    pub profile: fn(&S) -> Profile,
    /// The destination as RudderStack knows it.
    pub rudder: Option<Namesake>,
}

/// A destination of RudderStack's.
pub struct Namesake {
    /// The name of its definition, upper case.
    pub name: &'static str,
    /// What its users call it: the names that events may have in their `integrations` object.
    pub display_names: &'static [&'static str],
    /// The translation of its `Config`.
    pub settings: FromRudder,
}

impl<S: DeserializeOwned + JsonSchema + 'static> HttpEntry<S> {
    /// The line of the list of connectors.
    #[must_use]
    pub fn entry(self) -> DestinationEntry {
        let Self { kind, summary, mapper, profile, rudder } = self;
        let schema = || settings::with_common(schemars::schema_for!(S).to_value());
        let entry = DestinationEntry::new(kind, summary, schema, move |settings, context| {
            let id = context.id.as_str();
            let (common, own) = settings::parse::<S>(settings, &schema(), id)?;
            let wrong = |problem: String| settings::invalid(id, &problem);
            let profile = profile(&own);
            let reach = Reach {
                private: common.allow_private.clone(),
                timeout: profile.timeout,
                hosts: profile.hosts.clone(),
                origin: common.origin().map_err(wrong)?,
            };
            let mapper = mapper(&own).map_err(wrong)?;
            Ok(Arc::new(HttpDestination::new(mapper, profile, reach, Arc::new(SystemClock))?))
        });
        match rudder {
            Some(Namesake { name, display_names, settings }) => {
                entry.with_rudder(name, display_names.iter().map(|name| DisplayName::new(name)), settings)
            }
            None => entry,
        }
    }
}
