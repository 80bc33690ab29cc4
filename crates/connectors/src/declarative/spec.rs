//! The YAML of a destination: these doc comments are its reference, and the JSON Schema for editors.

mod answer;
mod case;
mod field;

use std::collections::BTreeMap;

use millrace_service::config::{Period, Size};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use answer::{ClassRule, ErrorRule, IdPaths, ResultSpec, Statuses};
pub use case::{Expected, ExpectedRequest, OutcomeName, Respond, TestCase};
pub use field::{Field, FieldKind, LongField};

/// A destination that speaks HTTP.
///
/// Texts in which `{{ … }}` may stand are called templates. Between the braces, and wherever an expression
/// is asked for, stands a minijinja expression such as `traits.plan or 'free'`. It sees the fields of the
/// event by name (`type`, `userId`, `traits`, `context`, `properties` …) and `settings`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What the file describes.
    pub kind: Kind,
    /// The name: `kind:` of destinations in the config. Lower-case letters, digits and `_`.
    pub name: String,
    /// A line for people.
    pub summary: String,
    /// What a user of the destination has to know: shown on its reference page.
    #[serde(default)]
    pub description: Option<String>,
    /// What the user sets, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    /// Where requests go, and as whom.
    pub http: Http,
    /// A request that changes nothing and proves that the settings work. Without it a check only proves
    /// that something answers at the base URL.
    #[serde(default)]
    pub check: Option<CheckSpec>,
    /// How many requests the vendor takes.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// Calls under way at once; 8 unless said.
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// Whether the vendor minds the order of one person's items; `user` unless said.
    #[serde(default)]
    pub ordering: Ordering,
    /// How items travel together: joined by the `array` of their requests, or wrapped.
    #[serde(default)]
    pub batch: Option<Batch>,
    /// What is sent: each action whose `when` is true makes one request, in this order. An item that no
    /// action takes is filtered.
    pub actions: Vec<Action>,
    /// Where an answer tells of each item by itself.
    #[serde(default)]
    pub result: Option<ResultSpec>,
    /// What answers mean. The first that fits counts; where none does: 2xx is success, 429 throttled, 408,
    /// 425 and 5xx transient, 401 and 403 auth, 410 config, 413 oversize, everything else rejected.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// For those who come from RudderStack: its name of the destination, and where our settings stand in
    /// its `Config`.
    #[serde(default)]
    pub rudder: Option<RudderSpec>,
    /// Settings for the tests.
    #[serde(default)]
    pub test_settings: Map<String, Value>,
    /// Run by `millrace connectors test`.
    #[serde(default)]
    pub tests: Vec<TestCase>,
}

/// What a file describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A destination.
    Destination,
}

/// One setting.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SettingKind,
    /// What it is for, and where the user finds it.
    pub description: String,
    /// It is a key or password: never shown, and expected from the environment or a file.
    #[serde(default)]
    pub secret: bool,
    /// It must be given.
    #[serde(default)]
    pub required: bool,
    /// Its value where it is not given.
    #[serde(default)]
    pub default: Option<Value>,
    /// The values that it may have.
    #[serde(default, rename = "enum")]
    pub options: Vec<Value>,
}

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// Names with values.
    Object,
}

/// Where requests go, and as whom.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// A template of scheme, host and the beginning of the path; it may name `settings` alone.
    pub base_url: String,
    /// The credentials.
    #[serde(default)]
    pub auth: Auth,
    /// Headers of every request: templates, by name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long an answer may take: `10s`; 15 seconds unless said.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// The only hosts that may be called, such as `api.example.com` or `*.example.com`; the one of the base
    /// URL unless said.
    #[serde(default)]
    pub allow_hosts: Vec<String>,
}

/// Credentials. All texts are templates.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The user.
        username: String,
        /// The password; empty unless said.
        #[serde(default)]
        password: String,
    },
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A header with the HMAC-SHA256 of the body.
    Hmac {
        /// The header's name.
        header: String,
        /// The key.
        key: String,
        /// What stands before the hash, such as `sha256=`.
        #[serde(default)]
        prefix: String,
        /// How the hash is written.
        #[serde(default)]
        encoding: Encoding,
    },
    /// OAuth 2 with the grant `client_credentials`.
    Oauth2Client {
        /// The token endpoint.
        token_url: String,
        /// The client's name.
        client_id: String,
        /// The client's secret.
        client_secret: String,
        /// What is asked for.
        #[serde(default)]
        scope: Option<String>,
    },
    /// OAuth 2 with a refresh token.
    Oauth2Refresh {
        /// The token endpoint.
        token_url: String,
        /// The client's name.
        client_id: String,
        /// The client's secret.
        client_secret: String,
        /// The refresh token.
        refresh_token: String,
    },
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal digits.
    #[default]
    Hex,
    /// Base64.
    Base64,
}

/// A request that changes nothing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// The path behind the base URL: a template of `settings`.
    pub path: String,
    /// The verb; GET unless said.
    #[serde(default = "get")]
    pub method: String,
    /// Statuses that are well; any 2xx unless said.
    #[serde(default)]
    pub expect: Vec<u16>,
}

fn get() -> String {
    "GET".to_owned()
}

fn post() -> String {
    "POST".to_owned()
}

/// So many requests in so long, in every window of that length and whether they are joined or not.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests.
    pub requests: u32,
    /// In which time: `1s`, `1m`.
    pub per: Period,
}

/// What the vendor minds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// Items of one person go in their order: those that follow one another share a request where they are joined
    /// in an array, and any other waits until the one before it was answered.
    #[default]
    User,
    /// Items may overtake one another: faster where one person does much at once.
    None,
}

/// How items travel together.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Items in one request.
    pub max_items: usize,
    /// Bytes of one request: `1MB`; 1 MB unless said.
    #[serde(default)]
    pub max_bytes: Option<Size>,
    /// How long a batch waits for more items: `2s`; not at all unless said.
    #[serde(default)]
    pub max_wait: Option<Period>,
    /// The bodies become the elements of an array of this name, where the requests have no `array`; `.` makes
    /// the body an array.
    #[serde(default)]
    pub wrap: Option<String>,
    /// Fields beside that array: expressions of `settings`, by name.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
}

/// One thing that can be done over there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Its name, for people.
    pub name: String,
    /// An expression that says which items it takes; all of them unless said. Null in the event is as good as
    /// missing: ask `traits.plan is none`.
    #[serde(default)]
    pub when: Option<String>,
    /// Of those the items that are rejected; the first rule that fits tells why.
    #[serde(default)]
    pub reject: Vec<RejectRule>,
    /// Which changes of reverse ETL it takes. An action with `delete` alone takes no events.
    #[serde(default = "upsert")]
    pub sync_modes: Vec<ChangeMode>,
    /// The request.
    pub request: RequestSpec,
    /// The body: a path in it such as `contact.email` (a dot within a name is written `\.`), and what stands
    /// there.
    #[serde(default)]
    pub map: BTreeMap<String, Field>,
    /// What becomes of a field without a value.
    #[serde(default)]
    pub on_null: OnNull,
}

/// An item that is not sent but goes to the dead letters.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectRule {
    /// An expression that is true of such items.
    pub when: String,
    /// Why, for people: a text without values.
    pub reason: String,
}

fn upsert() -> Vec<ChangeMode> {
    vec![ChangeMode::Upsert]
}

/// What a change asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMode {
    /// That the row be there.
    Upsert,
    /// That it be gone.
    Delete,
}

/// The request of an action.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    /// The verb; POST unless said.
    #[serde(default = "post")]
    pub method: String,
    /// A template of the path behind the base URL. Values in it are percent-encoded; one that is missing or
    /// empty rejects the item.
    #[serde(default)]
    pub path: String,
    /// Headers: templates, by name. One whose value is missing is left out.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Query parameters: templates, by name. One whose value is missing is left out.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// How the body is written.
    #[serde(default)]
    pub format: Format,
    /// An expression for the whole body, in place of `map`; `item` is the event as it is.
    #[serde(default)]
    pub body: Option<String>,
    /// The mapped object becomes the element of an array at this path, such as `contacts`; `.` makes the body
    /// an array. With `batch`, the arrays of several items are joined.
    #[serde(default)]
    pub array: Option<String>,
    /// Fields beside the array: expressions of `settings`, by name.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`; an object or list within becomes JSON.
    Form,
    /// XML: an object with the root element as its one field.
    Xml,
    /// No body.
    None,
}

/// What becomes of a field without a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNull {
    /// It is left out.
    #[default]
    Omit,
    /// It is sent as null.
    Send,
}

/// A destination of RudderStack's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RudderSpec {
    /// The name of its definition, upper case.
    pub name: String,
    /// What its users call it, as in the `integrations` object of events: `Customer IO`.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Our settings, and where they stand in its `Config`.
    #[serde(default)]
    pub settings: BTreeMap<String, Field>,
}
