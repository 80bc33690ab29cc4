//! The settings of a generic HTTP destination. They are read as JSON: these types are their schema.

use std::collections::BTreeMap;

use millrace_service::Secret;
use millrace_service::config::Period;
use schemars::JsonSchema;

use crate::declarative::spec::{Field, Ordering, RateLimit};
pub use crate::destinations::shared::method::Method;

/// Requests to any HTTP API.
///
/// `path`, `headers` and `query` are templates: text in which `{{ … }}` holds a minijinja expression over
/// the event, such as `{{ traits.email | lower }}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Settings {
    /// The address: scheme, host and the beginning of the path.
    pub url: String,
    /// The verb.
    #[schemars(default)]
    pub method: Method,
    /// Parts that are put behind the address, each a template, joined by slashes and percent-encoded. An item
    /// without a value for one of them is rejected.
    #[schemars(default)]
    pub path: Vec<String>,
    /// Headers, by name: templates. One without a value is left out.
    #[schemars(default)]
    pub headers: BTreeMap<String, String>,
    /// Query parameters, by name: templates. One without a value is left out.
    #[schemars(default)]
    pub query: BTreeMap<String, String>,
    /// The credentials.
    #[schemars(default)]
    pub auth: Auth,
    /// What the body is: the event, what `map` makes of it, or nothing. Unless said, `map` where there is one,
    /// else the event; and nothing for GET and DELETE.
    pub body: Option<Body>,
    /// The body's fields: a path in it, and where its value comes from, as in `map:` of a connector in YAML.
    #[schemars(default)]
    pub map: BTreeMap<String, Field>,
    /// How the body is written.
    #[schemars(default)]
    pub format: Format,
    /// The root element of XML.
    pub xml_root: Option<String>,
    /// How items travel together; each by itself without it. Only with JSON.
    pub batch: Option<Batch>,
    /// An expression that says which items are sent; the others are filtered.
    pub when: Option<String>,
    /// How often the API may be called.
    pub rate_limit: Option<RateLimit>,
    /// Calls under way at once; 8 unless said.
    pub concurrency: Option<usize>,
    /// Whether the API minds the order of one person's items.
    #[schemars(default)]
    pub ordering: Ordering,
    /// How long an answer may take: `10s`; 15 seconds unless said.
    pub timeout: Option<Period>,
}

/// The credentials.
#[derive(Default, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(deny_unknown_fields)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// `Authorization: Basic …`.
    Basic {
        /// The user.
        username: String,
        /// The password; empty unless said.
        #[schemars(default)]
        password: Option<Secret>,
    },
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: Secret,
    },
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
}

/// What the body is.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The event.
    Event,
    /// What `map` makes of it.
    Map,
    /// Nothing.
    None,
}

/// How a body is written.
#[derive(Default, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`; an object or list within becomes JSON.
    Form,
    /// XML.
    Xml,
}

/// How items travel together.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Batch {
    /// Items in one request.
    pub max_items: usize,
    /// The field that holds them; `.`: the body is the array itself, which it is unless said.
    pub field: Option<String>,
    /// How long a batch waits for more items: `2s`; not at all unless said.
    pub max_wait: Option<Period>,
}
