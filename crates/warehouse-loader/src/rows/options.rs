//! Options of the mapping, in RudderStack's names: of the destination, and of a single event.

use millrace_connector::Dialect;
use serde_json::Value;

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
    pub fn from_rudder_config(config: &Value) -> Self {
        Self {
            skip_tracks_table: flag(config, "skipTracksTable"),
            skip_users_table: flag(config, "skipUsersTable"),
            store_full_event: flag(config, "storeFullEvent"),
            underscore_divide_numbers: flag(config, "underscoreDivideNumbers"),
            allow_users_context_traits: flag(config, "allowUsersContextTraits"),
            json_paths: list(config.get("jsonPaths")),
            max_columns: MAX_COLUMNS,
        }
    }
}

/// What holds for one event: the destination's options and the event's own
/// (`integrations.<DESTINATION>.options`, else `integrations.DATA_WAREHOUSE.options`).
#[derive(Debug)]
pub(super) struct EventOptions<'a> {
    pub(super) names: Names<'a>,
    pub(super) skip_tracks_table: bool,
    pub(super) skip_users_table: bool,
    /// Without the `_`, as the table `tracks` may be a track event's own.
    pub(super) own_table_names: bool,
    pub(super) json_paths: JsonPaths,
}

impl<'a> EventOptions<'a> {
    pub(super) fn new(message: &Value, options: &MappingOptions, dialect: &'a Dialect) -> Self {
        let integrations = message.get("integrations");
        let of = |name: &str| integrations.and_then(|all| all.get(name)).and_then(|one| one.get("options"));
        let own = of(dialect.rudder_name).or_else(|| of("DATA_WAREHOUSE")).unwrap_or(&Value::Null);
        let digits = if options.underscore_divide_numbers { Digits::Apart } else { Digits::WithLetters };
        let skip_escape = flag(own, "skipReservedKeywordsEscaping");
        let blendo = flag(own, "useBlendoCasing");
        let configured = if dialect.json_paths_in_config { options.json_paths.clone() } else { Vec::new() };
        let mut json_paths = list(own.get("jsonPaths"));
        json_paths.extend(configured);
        Self {
            names: Names { dialect, digits, blendo, escape_reserved: !skip_escape },
            skip_tracks_table: options.skip_tracks_table || flag(own, "skipTracksTable"),
            skip_users_table: options.skip_users_table || flag(own, "skipUsersTable"),
            own_table_names: skip_escape,
            json_paths: JsonPaths::new(&json_paths),
        }
    }
}

fn flag(options: &Value, name: &str) -> bool {
    options.get(name) == Some(&Value::Bool(true))
}

/// A list of texts, or one text with commas.
fn list(value: Option<&Value>) -> Vec<String> {
    let entries: Vec<&str> = match value {
        Some(Value::Array(entries)) => entries.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split(',').collect(),
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
    fn new(paths: &[String]) -> Self {
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
    pub(super) fn contains(&self, path: &[&str]) -> bool {
        self.0.iter().any(|known| known.iter().map(String::as_str).eq(path.iter().copied()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_paths_come_from_the_config_and_from_the_event() {
        let config = json!({"jsonPaths": " track.properties.cart , tags", "other": 1});
        let options = MappingOptions::from_rudder_config(&config);
        let message =
            json!({"integrations": {"DATA_WAREHOUSE": {"options": {"jsonPaths": ["Page.context.a.b"]}}}});
        let paths = |kind| EventOptions::new(&message, &options, dialect(kind).unwrap()).json_paths;
        assert!(paths("postgres").contains(&["track", "properties", "cart"]));
        assert!(paths("postgres").contains(&["track", "properties", "tags"]));
        assert!(paths("postgres").contains(&["page", "context", "a", "b"]));
        assert!(!paths("postgres").contains(&["page", "context", "a"]));
        assert!(!paths("clickhouse").contains(&["track", "properties", "cart"]));
    }

    #[test]
    fn an_events_own_options_add_to_the_destinations() {
        let options = MappingOptions { skip_tracks_table: true, ..MappingOptions::default() };
        let message = json!({"integrations": {
            "RS": {"options": {"skipUsersTable": true, "useBlendoCasing": true}},
            "DATA_WAREHOUSE": {"options": {"skipReservedKeywordsEscaping": true}},
        }});
        let redshift = EventOptions::new(&message, &options, dialect("redshift").unwrap());
        assert!(redshift.skip_tracks_table && redshift.skip_users_table && redshift.names.blendo);
        assert!(redshift.names.escape_reserved);
        let postgres = EventOptions::new(&message, &options, dialect("postgres").unwrap());
        assert!(!postgres.names.escape_reserved && !postgres.skip_users_table);
    }
}
