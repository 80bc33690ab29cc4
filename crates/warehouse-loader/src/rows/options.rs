//! Options of the mapping, in RudderStack's names: of the destination, and of a single event.

use millrace_connector::Dialect;
use sonic_rs::{JsonValueTrait, Value, ValueRef};

use super::message::last;
use super::names::Names;
use super::words::Digits;

/// The most columns a row may have, so that a client's mistake cannot fill a table's limit. RudderStack's
/// default, and PostgreSQL's limit.
const MAX_COLUMNS: usize = 1600;

/// Options of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingOptions {
    /// A track event makes no row in `tracks`.
    pub skip_tracks_table: bool,
    /// An identify event makes no row in `users`.
    pub skip_users_table: bool,
    /// Rows have a column `rudder_event` with the whole event.
    pub store_full_event: bool,
    /// Digits in names are words of their own: `v2` becomes `v_2`.
    pub underscore_divide_numbers: bool,
    /// An identify event's `context.traits` are columns without prefix too.
    pub allow_users_context_traits: bool,
    /// Values at these paths are JSON columns: `track.properties.cart`; without an event type before it,
    /// a path into a track event's properties or user properties.
    pub json_paths: Vec<String>,
    /// The most columns a row may have; the event is rejected above.
    pub max_columns: usize,
}

impl Default for MappingOptions {
    fn default() -> Self {
        Self {
            skip_tracks_table: false,
            skip_users_table: false,
            store_full_event: false,
            underscore_divide_numbers: false,
            allow_users_context_traits: false,
            json_paths: Vec::new(),
            max_columns: MAX_COLUMNS,
        }
    }
}

impl MappingOptions {
    /// Reads a RudderStack destination's `Config`. What is missing, or of another type, is the default;
    /// whatever else is there is for others.
    #[must_use]
    pub(super) fn from_rudder_config(config: &Value) -> Self {
        let flag = |name: &str| last(config, name).and_then(JsonValueTrait::as_bool) == Some(true);
        Self {
            skip_tracks_table: flag("skipTracksTable"),
            skip_users_table: flag("skipUsersTable"),
            store_full_event: flag("storeFullEvent"),
            underscore_divide_numbers: flag("underscoreDivideNumbers"),
            allow_users_context_traits: flag("allowUsersContextTraits"),
            json_paths: list(last(config, "jsonPaths")),
            max_columns: MAX_COLUMNS,
        }
    }
}

/// Options that an event brings along: `integrations.<DESTINATION>.options`, else
/// `integrations.DATA_WAREHOUSE.options`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OwnOptions {
    pub(super) skip_tracks_table: bool,
    pub(super) skip_users_table: bool,
    pub(super) naming: Naming,
}

/// What the names and types of an event's columns depend on besides the destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Naming {
    /// Only lower case and underscores, as Blendo did.
    pub(super) blendo: bool,
    /// Words that the warehouse reserves stay as they are, and `tracks` may be a track event's own table.
    pub(super) skip_escape: bool,
    /// As [`MappingOptions::json_paths`].
    pub(super) json_paths: Vec<String>,
}

impl OwnOptions {
    pub(super) fn of(integrations: Option<&Value>, dialect: &Dialect) -> Self {
        let of = |name: &str| last(last(integrations?, name)?, "options");
        let Some(own) = of(dialect.rudder_name).or_else(|| of("DATA_WAREHOUSE")) else {
            return Self::default();
        };
        let flag = |name: &str| last(own, name).and_then(JsonValueTrait::as_bool) == Some(true);
        Self {
            skip_tracks_table: flag("skipTracksTable"),
            skip_users_table: flag("skipUsersTable"),
            naming: Naming {
                blendo: flag("useBlendoCasing"),
                skip_escape: flag("skipReservedKeywordsEscaping"),
                json_paths: list(last(own, "jsonPaths")),
            },
        }
    }
}

impl Naming {
    /// How names are made.
    pub(super) fn names<'d>(&self, options: &MappingOptions, dialect: &'d Dialect) -> Names<'d> {
        let digits = if options.underscore_divide_numbers { Digits::Apart } else { Digits::WithLetters };
        Names { dialect, digits, blendo: self.blendo, escape_reserved: !self.skip_escape }
    }

    /// The event's own JSON paths and the destination's.
    pub(super) fn json_paths(&self, options: &MappingOptions, dialect: &Dialect) -> JsonPaths {
        let configured = if dialect.json_paths_in_config { options.json_paths.as_slice() } else { &[] };
        JsonPaths::new(self.json_paths.iter().chain(configured))
    }
}

/// A list of texts, or one text with commas.
fn list(value: Option<&Value>) -> Vec<String> {
    let entries: Vec<&str> = match value.map(Value::as_ref) {
        Some(ValueRef::Array(entries)) => entries.iter().filter_map(JsonValueTrait::as_str).collect(),
        Some(ValueRef::String(text)) => text.split(',').collect(),
        _ => Vec::new(),
    };
    entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

/// The event types that may begin a path.
const EVENT_TYPES: [&str; 7] = ["track", "identify", "page", "screen", "alias", "group", "extract"];

/// Paths whose values are JSON columns, each from the event type down.
#[derive(Debug, Default)]
pub(super) struct JsonPaths(Vec<Vec<String>>);

impl JsonPaths {
    fn new<'p>(paths: impl Iterator<Item = &'p String>) -> Self {
        let mut all = Vec::new();
        for path in paths {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            let event_type = first.to_ascii_lowercase();
            if EVENT_TYPES.contains(&event_type.as_str()) {
                all.push(format!("{event_type}.{rest}"));
            } else {
                all.push(format!("track.properties.{path}"));
                all.push(format!("track.userProperties.{path}"));
            }
        }
        Self(all.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect())
    }

    /// Whether a path, from the event type down, is one of them.
    pub(super) fn contains(&self, path: &[impl AsRef<str>]) -> bool {
        self.0.iter().any(|known| known.iter().map(String::as_str).eq(path.iter().map(AsRef::as_ref)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use sonic_rs::json;

    use super::*;

    #[test]
    fn json_paths_come_from_the_config_and_from_the_event() {
        let config = json!({"jsonPaths": " track.properties.cart , tags", "other": 1});
        let options = MappingOptions::from_rudder_config(&config);
        let integrations = json!({"DATA_WAREHOUSE": {"options": {"jsonPaths": ["Page.context.a.b"]}}});
        let paths = |kind| {
            let dialect = dialect(kind).unwrap();
            OwnOptions::of(Some(&integrations), dialect).naming.json_paths(&options, dialect)
        };
        assert!(paths("postgres").contains(&["track", "properties", "cart"]));
        assert!(paths("postgres").contains(&["track", "properties", "tags"]));
        assert!(paths("postgres").contains(&["page", "context", "a", "b"]));
        assert!(!paths("postgres").contains(&["page", "context", "a"]));
        assert!(!paths("clickhouse").contains(&["track", "properties", "cart"]));
    }

    #[test]
    fn an_events_own_options_are_those_of_the_destination_or_else_of_all_warehouses() {
        let integrations = json!({
            "RS": {"options": {"skipUsersTable": true, "useBlendoCasing": true}},
            "DATA_WAREHOUSE": {"options": {"skipReservedKeywordsEscaping": true}},
        });
        let own = |kind| OwnOptions::of(Some(&integrations), dialect(kind).unwrap());
        let redshift = own("redshift");
        assert!(redshift.skip_users_table && redshift.naming.blendo);
        assert!(!redshift.naming.skip_escape && !redshift.skip_tracks_table);
        assert!(own("postgres").naming.skip_escape && !own("postgres").skip_users_table);
    }
}
