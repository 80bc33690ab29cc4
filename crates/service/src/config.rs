//! The config file: read, resolved and judged, so that a stage meets only what makes sense.
//!
//! [`load`] takes four steps. The YAML becomes a tree in which every value knows its place (`tree`).
//! References such as `${NAME}` are resolved within scalars (`interpolate`). The tree becomes typed values
//! (`de`, `file`). What the types cannot say is judged (`resolve`, `secrets`): names that lead nowhere,
//! things named twice, secrets that stand in the file. No step stops at its first error, so that
//! [`ConfigErrors`] has them all; only YAML that cannot be parsed ends it there.
//!
//! Connectors judge their own `settings`; [`Document::errors`] lets whoever calls them show the place.

mod de;
mod error;
mod file;
mod ingest;
mod interpolate;
mod names;
mod resolve;
mod secrets;
mod tables;
mod tree;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use millrace_event_model::{ConnectionId, DestinationId, SourceId, SyncId, WarehouseId, Workspace};
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use error::{ConfigError, ConfigErrors};
pub use file::{
    AdminConfig, BlockEvents, DestinationConfig, FlushConfig, GeoipConfig, IngestConfig, NestedConfig,
    Settings, SourceConfig, SyncMode, WarehouseConfig,
};
pub use ingest::{LimitsConfig, RateLimitConfig, TlsConfig};
pub use interpolate::Environment;
pub use tables::{Contract, RowMode};
pub use tree::Step;
pub use units::{Count, Network, Period, Rate, Size, WriteKeys};

use crate::{Schedule, Window};
use tree::Node;

/// How strictly the file is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One machine, to try things: secrets may stand in the file, and warehouses are loaded every 2 s.
    Dev,
    /// A service that others rely on.
    Service,
}

/// A config file that makes sense: every name leads somewhere, every default is filled in.
#[derive(Debug)]
pub struct Config {
    /// The installation's name.
    pub workspace: Workspace,
    /// Where Kafka is; none asks for the embedded broker.
    pub kafka: Option<KafkaConfig>,
    /// Where the state is kept.
    pub state: String,
    /// HTTP in.
    pub ingest: IngestConfig,
    /// The process's own endpoints.
    pub admin: AdminConfig,
    /// Sources, those that are turned off included.
    pub sources: Vec<SourceConfig>,
    /// Warehouses.
    pub warehouses: Vec<WarehouseConfig>,
    /// Destinations, those that are turned off included.
    pub destinations: Vec<DestinationConfig>,
    /// A folder with destinations in YAML: the one that is named, or `connectors` beside the file, if there
    /// is one.
    pub connectors: Option<PathBuf>,
    /// Connections.
    pub connections: Vec<ConnectionConfig>,
    /// Syncs.
    pub syncs: Vec<SyncConfig>,
    /// Privacy policies by name, as crate `privacy` reads them.
    pub privacy: BTreeMap<String, Value>,
    /// The file, to show the place of errors that are found later.
    pub document: Document,
}

/// From a source to a warehouse or a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionConfig {
    /// `<from>--<to>`.
    pub id: ConnectionId,
    /// The source.
    pub from: SourceId,
    /// Where to, with what only that kind of connection has.
    pub to: Target,
    /// Where to begin when the connection is new.
    pub start: Start,
    /// Events for which this expression is false are filtered.
    pub when: Option<String>,
    /// A JavaScript file.
    pub transform: Option<PathBuf>,
    /// Kinds of sealed values that are opened.
    pub unseal: Vec<String>,
    /// Go on behind a gap that retention has made.
    pub accept_gap: bool,
    /// How rows of events are written.
    pub mode: RowMode,
    /// Leave out events whose message id was loaded before.
    pub dedup: bool,
    /// What may be changed in the schema.
    pub contract: Contract,
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Into tables.
    Warehouse {
        /// Which warehouse.
        id: WarehouseId,
        /// The schema of the tables.
        schema: String,
        /// When to load.
        schedule: Schedule,
        /// When not to.
        exclude: Vec<Window>,
        /// When to load before the schedule says so.
        flush: FlushConfig,
        /// What becomes of objects in the rows of an ELT source.
        nested: NestedConfig,
    },
    /// Out to a tool.
    Destination {
        /// Which destination.
        id: DestinationId,
    },
}

/// A reverse ETL model with its mapping and schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncConfig {
    /// Its name.
    pub id: SyncId,
    /// The warehouse.
    pub from: WarehouseId,
    /// The SQL whose rows are synced.
    pub model: String,
    /// The columns that make a row's identity; at least one.
    pub key: Vec<String>,
    /// The destination.
    pub to: DestinationId,
    /// What is published.
    pub mode: SyncMode,
    /// Target path to column; empty: the row as it is.
    pub map: BTreeMap<String, String>,
    /// What makes it run.
    pub trigger: Trigger,
}

/// What makes a sync run.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// The clock, or nothing but an operator (`manual`).
    Schedule(Schedule),
    /// A commit of the loader to this warehouse.
    After(WarehouseId),
}

/// Where a new connection begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With everything that Kafka still holds.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
    /// With what Kafka received from this moment on.
    At(DateTime<Utc>),
}

/// The text is none of the ways to say where to begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not earliest, latest, or a time such as 2026-11-24T10:00:00Z")]
pub struct InvalidStart(String);

impl FromStr for Start {
    type Err = InvalidStart;

    fn from_str(text: &str) -> Result<Self, InvalidStart> {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            time => DateTime::parse_from_rfc3339(time)
                .map(|at| at.with_timezone(&Utc))
                .or_else(|_| time.parse().map(midnight))
                .map(Self::At)
                .map_err(|_| InvalidStart(time.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Start {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Start".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "earliest, latest, or an RFC 3339 time." })
    }
}

/// Where Kafka is, and whatever else librdkafka can be told.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Properties in librdkafka's names.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.keys().collect();
        f.debug_struct("KafkaConfig").field("brokers", &self.brokers).field("properties", &names).finish()
    }
}

impl<'de> Deserialize<'de> for KafkaConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut properties = BTreeMap::<String, Property>::deserialize(deserializer)?;
        let brokers = properties.remove("brokers").ok_or_else(|| D::Error::missing_field("brokers"))?;
        let properties = properties.into_iter().map(|(name, Property(value))| (name, value)).collect();
        Ok(Self { brokers: brokers.0, properties })
    }
}

impl JsonSchema for KafkaConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KafkaConfig".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "Where Kafka is. Any librdkafka property may stand beside `brokers`.",
            "properties": { "brokers": { "type": "string", "description": "host:port, separated by commas." } },
            "required": ["brokers"],
            "additionalProperties": { "type": ["string", "number", "boolean"] }
        })
    }
}

/// A librdkafka property, which is text, though YAML may take it for a number or a boolean.
struct Property(String);

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PropertyVisitor)
    }
}

struct PropertyVisitor;

impl Visitor<'_> for PropertyVisitor {
    type Value = Property;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean")
    }

    fn visit_str<E>(self, value: &str) -> Result<Property, E> {
        Ok(Property(value.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Property, E> {
        Ok(Property(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Property, E> {
        Ok(Property(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Property, E> {
        Ok(Property(value.to_string()))
    }
}

/// The file as it was read.
#[derive(Clone)]
pub struct Document {
    name: String,
    text: Arc<str>,
    root: Arc<Node>,
}

impl Document {
    /// An error about the value at a path, such as `["destinations".into(), 0.into(), "settings".into()]`.
    /// Where the path leads nowhere, it is about the nearest value above.
    pub fn error(&self, path: &[Step], message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.root.nearest(path).span.clone(), message)
    }

    /// The errors as what is shown to people.
    #[must_use]
    pub fn errors(&self, errors: Vec<ConfigError>) -> ConfigErrors {
        ConfigErrors::new(&self.name, Arc::clone(&self.text), errors)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({})", self.name)
    }
}

/// Reads a config file, with references looked up in the process's environment.
///
/// # Errors
/// The file cannot be read, or has errors: all of them.
pub fn load(path: &Path, mode: Mode) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let unreadable = ConfigError::new(0..0, format!("cannot read the file: {error}"));
            return Err(ConfigErrors::new(&name, Arc::from(""), vec![unreadable]));
        }
    };
    let environment = Environment {
        variable: &|name| std::env::var(name).ok(),
        file: &|path| std::fs::read_to_string(path),
    };
    parse(&name, &text, &environment, mode)
}

/// Reads the text of a config file. `name` is its path: what `transform:` names is relative to its folder.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(
    name: &str,
    text: &str,
    environment: &Environment<'_>,
    mode: Mode,
) -> Result<Config, ConfigErrors> {
    let mut errors = Vec::new();
    // A file that is no YAML is shown as it stands: where its secrets are nobody can tell.
    let mut root =
        Node::parse(text).map_err(|error| ConfigErrors::new(name, Arc::from(text), vec![error]))?;
    root.interpolate(text, environment, &mut errors);
    let text: Arc<str> = Arc::from(secrets::hide(text, &root));
    let fail = |errors| ConfigErrors::new(name, Arc::clone(&text), errors);
    let whole = root.clone();
    let file: Option<file::File> = de::read(&mut root, &mut errors);
    if mode == Mode::Service {
        secrets::find_literals(&whole, &mut errors);
    }
    let Some(file) = file else { return Err(fail(errors)) };
    let document = Document { name: name.to_owned(), text: Arc::clone(&text), root: Arc::new(whole) };
    let config = resolve::resolve(file, &root, document, mode, &mut errors);
    match config {
        Some(config) if errors.is_empty() => Ok(config),
        _ => Err(fail(errors)),
    }
}

/// Reads the text of another YAML file as the config file is read, but without references: all that is
/// wrong at once, each with its place.
///
/// # Errors
/// All that is wrong with it.
pub fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<(T, Document), ConfigErrors> {
    let source: Arc<str> = Arc::from(text);
    let fail = |errors| ConfigErrors::new(name, Arc::clone(&source), errors);
    let mut root = Node::parse(text).map_err(|error| fail(vec![error]))?;
    let mut errors = Vec::new();
    let whole = root.clone();
    match de::read(&mut root, &mut errors) {
        Some(value) if errors.is_empty() => {
            Ok((value, Document { name: name.to_owned(), text: source, root: Arc::new(whole) }))
        }
        _ => Err(fail(errors)),
    }
}

/// The JSON Schema of the file, for editors.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(file::File).to_value()
}

#[cfg(test)]
mod tests;
