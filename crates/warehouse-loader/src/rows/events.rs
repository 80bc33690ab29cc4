//! Which rows an event makes, by its type (warehouse schema rules §1).

use millrace_columnar::Cell;
use millrace_connector::WriteMode;
use millrace_event_model::{FieldType, Reason};
use serde_json::{Map, Value};

use super::datatype::is_blank;
use super::flatten::{Columns, Flattener};
use super::options::EventOptions;
use super::rules::{self, apply, is_plain};
use super::{MappedRow, Mapping, MessageMetadata};

/// One event on its way to rows.
pub(super) struct EventRows<'a> {
    message: &'a Value,
    metadata: &'a MessageMetadata<'a>,
    mapping: &'a Mapping<'a>,
    options: EventOptions<'a>,
    event_type: String,
}

impl<'a> EventRows<'a> {
    pub(super) fn new(
        message: &'a Value,
        metadata: &'a MessageMetadata<'a>,
        mapping: &'a Mapping<'a>,
    ) -> Self {
        let options = EventOptions::new(message, &mapping.options, mapping.dialect);
        let event_type = message.get("type").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        Self { message, metadata, mapping, options, event_type }
    }

    /// The rows, in the order in which RudderStack writes them.
    pub(super) fn rows(&self) -> Result<Vec<MappedRow>, Reason> {
        match self.event_type.as_str() {
            "track" => self.track(),
            "identify" => self.identify(),
            "page" => self.single("pages", "properties", rules::PAGE),
            "screen" => self.single("screens", "properties", rules::PAGE),
            "group" => self.single("groups", "traits", rules::GROUP),
            "alias" => self.single("aliases", "traits", rules::ALIAS),
            "extract" => self.extract(),
            // Only for identity resolution in the warehouse, which is not built in: no rows.
            "merge" => Ok(Vec::new()),
            _ => Err(Reason::new("unknown_event_type", format!("Unknown event type: {:?}", self.event_type))),
        }
    }

    fn track(&self) -> Result<Vec<MappedRow>, Reason> {
        let names = &self.options.names;
        let record_id = self.cloud_record_id()?;
        let event = names.table(&text(self.message.get("event")));
        let mut common = self.context();
        self.apply(rules::TRACK, &mut common);
        self.apply(rules::DEFAULT, &mut common);
        // Even without a name: the rows of a track event have this column.
        common.set(names.safe_column("event"), (FieldType::String, Cell::String(event.clone())));
        let mut rows = Vec::new();
        if !self.options.skip_tracks_table {
            let mut tracks = common.clone();
            if let Some(id) = &record_id {
                rules::set("record_id", &Value::String(text(Some(id))), names, &mut tracks);
            }
            self.store_full_event(&mut tracks);
            rows.push(self.row("tracks", tracks)?);
        }
        if event.trim().is_empty() {
            return Ok(rows);
        }
        let mut columns = self.flatten(&["properties"], "");
        columns.extend(self.flatten(&["userProperties"], ""));
        columns.extend(common);
        if let Some(id) = &record_id {
            rules::set("id", id, names, &mut columns);
        }
        rows.push(self.finish(self.event_table(&event)?, columns, WriteMode::Append)?);
        Ok(rows)
    }

    fn identify(&self) -> Result<Vec<MappedRow>, Reason> {
        let names = &self.options.names;
        let mut common = self.flatten(&["userProperties"], "");
        if self.mapping.options.allow_users_context_traits {
            common.extend(self.flatten(&["context", "traits"], ""));
        }
        common.extend(self.flatten(&["traits"], ""));
        common.extend(self.context());
        let mut identifies = common.clone();
        self.apply(rules::DEFAULT, &mut identifies);
        self.store_full_event(&mut identifies);
        let mut rows = vec![self.row("identifies", identifies)?];
        if self.options.skip_users_table || self.message.get("userId").is_none_or(is_blank) {
            return Ok(rows);
        }
        let mut users = common;
        if !self.mapping.dialect.data_lake {
            self.apply(rules::USERS_IN_DATABASES, &mut users);
        }
        self.apply(rules::USERS, &mut users);
        let write =
            WriteMode::MergeLatest { key: names.safe_column("id"), order: names.safe_column("received_at") };
        rows.push(self.finish(names.safe_table("users")?, users, write)?);
        Ok(rows)
    }

    fn single(
        &self,
        table: &str,
        properties: &str,
        own_rules: &[(&str, rules::From)],
    ) -> Result<Vec<MappedRow>, Reason> {
        let mut columns = self.flatten(&[properties], "");
        columns.extend(self.context());
        self.apply(rules::DEFAULT, &mut columns);
        self.apply(own_rules, &mut columns);
        self.store_full_event(&mut columns);
        Ok(vec![self.row(table, columns)?])
    }

    fn extract(&self) -> Result<Vec<MappedRow>, Reason> {
        let names = &self.options.names;
        let event = text(self.message.get("event"));
        let record_id = self.record_id()?;
        let table = names.column(&names.table(&event));
        if table.trim().is_empty() {
            return Err(Reason::new("event_name_missing", "cannot create event table with empty event name"));
        }
        let mut columns = self.flatten(&["properties"], "");
        columns.extend(self.context());
        rules::set("event", &Value::String(event), names, &mut columns);
        rules::set("id", record_id, names, &mut columns);
        self.apply(rules::EXTRACT, &mut columns);
        Ok(vec![self.finish(self.event_table(&table)?, columns, WriteMode::Append)?])
    }

    /// A track event's own table must not be one of those that other events fill.
    fn event_table(&self, event: &str) -> Result<String, Reason> {
        let names = &self.options.names;
        let table = names.safe_table(&names.column(event))?;
        let taken = match table.to_lowercase().as_str() {
            // Always: their rows are keyed in another way.
            "users" | "identifies" => true,
            "tracks" | "pages" | "screens" | "aliases" | "groups" | "accounts" => {
                !self.options.own_table_names
            }
            _ => false,
        };
        Ok(if taken { format!("_{table}") } else { table })
    }

    fn flatten(&self, source: &[&str], prefix: &str) -> Columns {
        self.flattener().flatten(self.message, source, prefix)
    }

    fn flattener(&self) -> Flattener<'_> {
        let cloud = self.mapping.source.category.as_deref() == Some("cloud");
        Flattener { options: &self.options, event_type: &self.event_type, cloud }
    }

    /// The columns of the context, and of where the event comes from and goes to.
    fn context(&self) -> Columns {
        let mut columns = self.flatten(&["context"], "context_");
        let there =
            self.message.get("context").is_none_or(|context| context.is_null() || context.is_object());
        if there {
            let source = &self.mapping.source;
            let known = [
                ("sourceId", &source.id),
                ("sourceType", &source.source_type),
                ("destinationId", &self.mapping.destination_id),
                ("destinationType", &self.mapping.destination_type),
            ];
            let known = known
                .into_iter()
                .filter_map(|(key, value)| value.clone().map(|value| (key.to_owned(), Value::String(value))));
            let context = Value::Object(known.collect::<Map<_, _>>());
            columns.extend(self.flattener().flatten(&context, &[], "context_"));
        }
        columns
    }

    fn apply(&self, rules: &[(&str, rules::From)], columns: &mut Columns) {
        apply(rules, self.message, self.metadata, &self.options.names, columns);
    }

    fn store_full_event(&self, columns: &mut Columns) {
        if !self.mapping.options.store_full_event {
            return;
        }
        let field_type = self.mapping.dialect.full_event;
        let text = self.message.to_string();
        let cell = if field_type == FieldType::Json { Cell::Json(text) } else { Cell::String(text) };
        columns.set(self.options.names.safe_column("rudder_event"), (field_type, cell));
    }

    /// The record of a cloud source, where the event is one of its sync jobs.
    fn cloud_record_id(&self) -> Result<Option<Value>, Reason> {
        let category = self.mapping.source.category.as_deref();
        let cloud = matches!(category, Some("cloud" | "singer-protocol"));
        let version = self.message.pointer("/context/sources/version");
        if !cloud || version.is_none_or(is_blank) {
            return Ok(None);
        }
        self.record_id().cloned().map(Some)
    }

    fn record_id(&self) -> Result<&Value, Reason> {
        let given = self.metadata.record_id.or_else(|| self.message.get("recordId"));
        given.filter(|id| is_plain(id)).ok_or_else(|| {
            Reason::new("record_id_missing", "recordId cannot be empty for cloud sources events")
        })
    }

    fn row(&self, table: &str, columns: Columns) -> Result<MappedRow, Reason> {
        self.finish(self.options.names.safe_table(table)?, columns, WriteMode::Append)
    }

    /// Adds the columns that are set at load, and holds the limit.
    fn finish(&self, table: String, mut columns: Columns, write: WriteMode) -> Result<MappedRow, Reason> {
        let names = &self.options.names;
        columns.types.insert(names.safe_column("uuid_ts"), FieldType::DateTime);
        if names.dialect.loaded_at {
            columns.types.insert(names.safe_column("loaded_at"), FieldType::DateTime);
        }
        let from_sources = self.message.get("channel").and_then(Value::as_str) == Some("sources");
        let limited = !from_sources && !names.dialect.data_lake;
        if limited && columns.types.len() > self.mapping.options.max_columns {
            let name = names.dialect.rudder_name.to_lowercase();
            let message = format!("{name} transformer: Too many columns outputted from the event");
            return Err(Reason::new("too_many_columns", message));
        }
        Ok(MappedRow { table, columns: columns.types, cells: columns.cells, write })
    }
}

/// A value as text; empty where it is none, or no plain value.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(plain) if is_plain(plain) => plain.to_string(),
        _ => String::new(),
    }
}
