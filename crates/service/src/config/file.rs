//! The file as its author writes it. The doc comments are the reference page: `millrace schema` prints them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::ingest::{LimitsConfig, RateLimitConfig, TlsConfig};
use super::units::{Count, Network, Period, Size, WriteKeys};
use super::{Contract, KafkaConfig, RowMode, Start};
use crate::{Schedule, Window};
use millrace_event_model::{DestinationId, Lane, SourceId, SyncId, WarehouseId, Workspace};

/// A Millrace installation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "millrace.yaml")]
pub(super) struct File {
    /// The installation's name: the first part of every topic, group and state path.
    #[schemars(required, with = "String")]
    pub(super) workspace: Option<Workspace>,
    /// Where Kafka is. Without it, `dev` and `demo` start the embedded broker.
    #[serde(default)]
    pub(super) kafka: Option<KafkaConfig>,
    /// Where leases, snapshots and intents are kept: a folder.
    #[serde(default = "default_state")]
    pub(super) state: String,
    /// HTTP in.
    #[serde(default)]
    pub(super) ingest: IngestConfig,
    /// The process's own endpoints.
    #[serde(default)]
    pub(super) admin: AdminConfig,
    /// Where events and records come from.
    #[serde(default)]
    pub(super) sources: Vec<SourceConfig>,
    /// Events of all sources that come in by HTTP which are answered as if they were stored, and are not.
    #[serde(default)]
    pub(super) block_events: BlockEvents,
    /// Where tables are.
    #[serde(default)]
    pub(super) warehouses: Vec<WarehouseConfig>,
    /// Where events and changes are sent.
    #[serde(default)]
    pub(super) destinations: Vec<DestinationConfig>,
    /// A folder with destinations of your own in YAML, relative to this file; without it: `connectors`
    /// beside it, if there is one.
    #[serde(default)]
    pub(super) connectors: Option<PathBuf>,
    /// What flows from where to where.
    #[serde(default)]
    pub(super) connections: Vec<ConnectionEntry>,
    /// Reverse ETL: what flows from a warehouse to a destination.
    #[serde(default)]
    pub(super) syncs: Vec<SyncEntry>,
    /// Privacy policies by name, for `privacy:` of a source: `{ detect: all, action: mask }`, or an action
    /// for each kind, such as `{ email: hash, card: redact, ip: truncate }`. `geo: city` says how precisely
    /// clients may be located: nothing, country, region, city or point.
    #[serde(default)]
    pub(super) privacy: BTreeMap<String, Value>,
}

fn default_state() -> String {
    "./data/state".to_owned()
}

/// HTTP in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: String,
    /// The address by which browsers reach ingest, such as `https://events.example.com`: Segment's SDK is told
    /// to send there. Without it, the address by which the SDK has asked.
    pub public_url: Option<String>,
    /// Answer `/internal/v1/*` too: events from other systems of yours, which may name any source without its
    /// write key. Only where the port cannot be reached from outside.
    pub internal: bool,
    /// Serve HTTPS instead of HTTP.
    pub tls: Option<TlsConfig>,
    /// Load balancers and proxies in front, such as `10.0.0.0/8`: their `X-Forwarded-For` says who the client is,
    /// and the first address from its right end that is none of theirs is taken. Without the list the client is
    /// whoever has connected. (RudderStack believes the header whoever sends it: then any client can choose its
    /// address.)
    pub trusted_proxies: Vec<Network>,
    /// Bounds of requests, connections and times.
    pub limits: LimitsConfig,
    /// Look up where clients are, by their addresses, and add it to their events as `context.geo`. Without it
    /// nothing is looked up.
    pub geoip: Option<GeoipConfig>,
}

/// Where to look up places.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoipConfig {
    /// A database in MaxMind's format such as `GeoLite2-City.mmdb`, relative to this file. It is kept in
    /// memory, and read again when the file has changed; while a new file cannot be read, the old one stays.
    pub database: PathBuf,
}

impl IngestConfig {
    /// `http`, or `https` with a certificate.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".to_owned(),
            public_url: None,
            internal: false,
            tls: None,
            trusted_proxies: Vec::new(),
            limits: LimitsConfig::default(),
            geoip: None,
        }
    }
}

/// `/metrics`, `/healthz`, `/readyz`, the admin API and the console.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: String,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8081".to_owned() }
    }
}

/// A source of events (`kind: http` or `webhook`) or of records.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name.
    #[schemars(with = "String")]
    pub id: SourceId,
    /// `http` for the SDKs' protocol, `webhook` for what other tools post to `/v1/webhook`; else a kind of ELT
    /// source, such as `airbyte` or `singer`.
    pub kind: String,
    /// Whether it is on.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The topic it writes to; a lane of its own keeps a noisy source from delaying the others.
    #[serde(default = "Lane::main")]
    #[schemars(with = "String")]
    pub lane: Lane,
    /// For `http` and `webhook`: what the SDKs are set up with. While a key is being rotated, a list of the new
    /// one and the old one: `["${NEW_KEY}", "${OLD_KEY}"]`; all of them are good.
    #[serde(default)]
    pub write_key: Option<WriteKeys>,
    /// For `http` and `webhook`: how much may be sent. Without it, as much as the limits of ingest allow.
    #[serde(default)]
    pub rate_limit: Option<RateLimitConfig>,
    /// For `http` and `webhook`: the pages that may send, such as `https://www.example.com`. Without the list,
    /// every page may. Requests that do not come from a page are not affected.
    #[serde(default)]
    pub origins: Vec<String>,
    /// For `http`: the source whose events are sent again to this one by `/internal/v1/replay`. They keep the
    /// time at which they were received first. Such a source needs no write key.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub replay_of: Option<SourceId>,
    /// For `http` and `webhook`: events which are answered as if they were stored, and are not, in addition to
    /// those that the whole file blocks.
    #[serde(default)]
    pub block_events: BlockEvents,
    /// The name of a privacy policy. Without one nothing is masked, but that a source with `replay_of` has the
    /// policy of the other one.
    #[serde(default)]
    pub privacy: Option<String>,
    /// For ELT: the program to run and its first arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// For ELT: when to read: an interval, a cron expression in UTC or with a time zone behind it. Without it, only
    /// when asked to.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// What the kind asks for.
    #[serde(default)]
    pub settings: Settings,
}

impl SourceConfig {
    /// Whether it comes in by HTTP; else extract reads it.
    #[must_use]
    pub fn comes_by_http(&self) -> bool {
        matches!(self.kind.as_str(), "http" | WEBHOOK)
    }

    /// Whether it takes what any tool posts, instead of events.
    #[must_use]
    pub fn is_webhook(&self) -> bool {
        self.kind == WEBHOOK
    }
}

/// Events by type and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlockEvents {
    /// Names of `track` events, exactly as they are sent: `Purchase` is not `purchase`.
    pub track: Vec<String>,
}

/// The kind of source that takes any payload.
const WEBHOOK: &str = "webhook";

/// A warehouse or lake.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarehouseConfig {
    /// Its name.
    #[schemars(with = "String")]
    pub id: WarehouseId,
    /// Such as `postgres` or `lake`.
    pub kind: String,
    /// What the kind asks for.
    #[serde(default)]
    pub settings: Settings,
    /// What users must have consented to for their events to go there, as of a destination. Rows of ELT sources
    /// say nothing of consent, and go there.
    #[serde(default)]
    pub consent: Vec<Value>,
}

/// A destination.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationConfig {
    /// Its name.
    #[schemars(with = "String")]
    pub id: DestinationId,
    /// Such as `webhook`.
    pub kind: String,
    /// Whether it is on.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What the kind asks for.
    #[serde(default)]
    pub settings: Settings,
    /// What users must have consented to for their events to go there, by consent manager:
    /// `[{ provider: oneTrust, categories: [C0004], require: all }]`. Without `provider` a rule is for all;
    /// without `require` (`all` or `any`) the event's `resolutionStrategy` counts.
    #[serde(default)]
    pub consent: Vec<Value>,
}

/// From a source to a warehouse or a destination.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionEntry {
    /// The source.
    #[schemars(with = "String")]
    pub(super) from: SourceId,
    /// The warehouse or destination.
    pub(super) to: String,
    /// For a warehouse: the schema of the tables. By default the source's name, with `_` for `-`.
    #[serde(default)]
    pub(super) schema: Option<String>,
    /// For a warehouse: when to load. By default 2s in `dev` and for a local lake, 10m for a lake on an
    /// object store, else 1m.
    #[serde(default)]
    pub(super) schedule: Option<Schedule>,
    /// For a warehouse: times of the day in which nothing is loaded, such as `"08:00-18:00 Europe/Berlin"` or, in
    /// UTC, `"22:00-06:00"`. What comes meanwhile waits in Kafka.
    #[serde(default)]
    pub(super) exclude: Vec<Window>,
    /// For a warehouse: how large a load becomes, and how long its oldest item may wait.
    #[serde(default)]
    pub(super) flush: FlushConfig,
    /// For a warehouse, of an ELT source: what becomes of objects in its rows. By default a column of JSON.
    #[serde(default)]
    pub(super) nested: NestedConfig,
    /// Where to begin when the connection is new: `earliest`, `latest`, or a time.
    #[serde(default)]
    pub(super) start: Start,
    /// An expression; events for which it is false are filtered.
    #[serde(default)]
    pub(super) when: Option<String>,
    /// A JavaScript file, relative to this one.
    #[serde(default)]
    pub(super) transform: Option<String>,
    /// Kinds of sealed values that are opened for this connection.
    #[serde(default)]
    pub(super) unseal: Vec<String>,
    /// For a warehouse: go on behind a gap that retention has made, and count what is gone as expired.
    #[serde(default)]
    pub(super) accept_gap: bool,
    /// For a warehouse: how rows of events are written, `append` or `merge`.
    #[serde(default)]
    pub(super) mode: RowMode,
    /// For a warehouse: leave out events whose message id was loaded within 28 days.
    #[serde(default = "yes")]
    pub(super) dedup: bool,
    /// For a warehouse: what may be changed in the schema, `evolve`, `freeze`, `discard_row` or `discard_value`.
    #[serde(default)]
    pub(super) contract: Contract,
}

/// When what was gathered is loaded before the schedule says so. Whatever comes first counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlushConfig {
    /// After so many events or records, each of which makes one row or more.
    pub rows: Option<Count>,
    /// After so many bytes as Kafka holds them, at most 256 MiB. A load is held in memory.
    pub bytes: Option<Size>,
    /// When the first has waited so long. Only beside an interval: a cron schedule takes all that is there at its
    /// times.
    pub age: Option<Period>,
}

/// What becomes of objects and lists in the rows of an ELT source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NestedConfig {
    /// A column of JSON.
    #[default]
    Json,
    /// A column for each field of an object, the names joined by `_`. Lists are JSON.
    Flatten,
    /// As `flatten`, and a table for each list that the source declares. The lists of streams that are written by
    /// primary key stay JSON.
    Tables,
}

/// A reverse ETL model with its mapping and schedule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncEntry {
    /// Its name.
    #[schemars(with = "String")]
    pub(super) id: SyncId,
    /// The warehouse.
    pub(super) from: String,
    /// The SQL whose rows are synced.
    pub(super) model: String,
    /// The columns that make a row's identity.
    pub(super) key: Vec<String>,
    /// The destination.
    pub(super) to: String,
    /// What is published: `upsert` new and changed rows; `insert` new ones only; `update` changed ones
    /// only; `mirror` also deletes those that are gone; `full` all rows each time.
    #[serde(default)]
    pub(super) mode: SyncMode,
    /// Target path to column. Without it a row goes out as it is.
    #[serde(default)]
    pub(super) map: BTreeMap<String, String>,
    /// When to run; or give `after`. With neither, only when asked to.
    #[serde(default)]
    pub(super) schedule: Option<Schedule>,
    /// A warehouse: run when the loader has committed to it.
    #[serde(default)]
    pub(super) after: Option<String>,
}

/// What a sync publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// New and changed rows.
    #[default]
    Upsert,
    /// New rows only.
    Insert,
    /// Changed rows only.
    Update,
    /// New and changed rows, and deletes for those that are gone.
    Mirror,
    /// All rows in each run.
    Full,
}

/// What a connector's kind asks for: any mapping. It may hold secrets, so `Debug` does not show it.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(serde_json::Map<String, Value>);

impl Settings {
    /// The settings as a JSON object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self(serde_json::Map::new())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn yes() -> bool {
    true
}
