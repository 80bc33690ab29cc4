//! The table of a stream: its name, columns and key, from what the source says of the stream.

use std::collections::{BTreeMap, BTreeSet};

use millrace_columnar::TableSchema;
use millrace_connector::{Dialect, WriteMode};
use millrace_event_model::{FieldType, LoadMode, Reason, StreamSpec};
use serde_json::Value;

use crate::rows::{Nested, list_table, marked, stream_column, stream_table};

/// When the source emitted the row.
pub(crate) const EXTRACTED_AT: &str = "_millrace_extracted_at";

/// What was changed of the row on its way: `{"changes": [{"field", "change", "reason", "value"}]}`, as in
/// Airbyte's `_airbyte_meta`. Null where nothing was.
pub(crate) const META: &str = "_meta";

/// When the row was loaded; filled by the plan. The same name as in the tables of events.
pub(crate) const LOADED_AT: &str = "uuid_ts";

/// Tells the rows of a table that lists have tables of: 32 hexadecimal digits, the same each time.
pub(crate) const ID: &str = "_millrace_id";

/// In the table of a list: the [`ID`] of the row that has it.
pub(crate) const PARENT_ID: &str = "_millrace_parent_id";

/// In the table of a list: the place in it, from 0.
pub(crate) const INDEX: &str = "_millrace_index";

/// In the table of a list of plain values: the value.
const VALUE: &str = "value";

/// How deep objects become columns of their own; those below are JSON. A source that nests deeper mostly does
/// so without end.
pub(crate) const MAX_DEPTH: usize = 8;

/// A stream's table in one warehouse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamTable {
    pub(crate) name: String,
    /// The declared columns, and the three that every table has.
    pub(crate) columns: TableSchema,
    pub(crate) fields: Fields,
    /// The primary key: the path to each part and its column.
    pub(crate) key: Vec<(Vec<String>, String)>,
    pub(crate) write: WriteMode,
    pub(crate) nested: Nested,
    /// See [`EXTRACTED_AT`], in the warehouse's spelling.
    pub(crate) extracted_at: String,
    /// See [`META`], in the warehouse's spelling.
    pub(crate) meta: String,
    /// See [`ID`]; where there is a list with a table of its own.
    pub(crate) id: Option<String>,
    /// Of the table of a list.
    pub(crate) of_list: Option<OfList>,
}

/// What only the table of a list has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OfList {
    /// See [`PARENT_ID`], in the warehouse's spelling.
    pub(crate) parent_id: String,
    /// See [`INDEX`], in the warehouse's spelling.
    pub(crate) index: String,
    /// Where the list's values are no objects: their column and type.
    pub(crate) value: Option<(String, FieldType)>,
}

/// The declared fields of an object.
pub(crate) type Fields = BTreeMap<String, Field>;

/// What a declared field becomes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    Column {
        name: String,
        field_type: FieldType,
    },
    /// Columns of its own fields.
    Object(Fields),
    /// A table of its own values.
    List(Box<StreamTable>),
}

impl StreamTable {
    /// `<namespace>_<name>`, or the name alone where there is no namespace, made safe as tables of events
    /// are.
    ///
    /// # Errors
    /// The stream's name has nothing that a name can be made of.
    pub(crate) fn of(spec: &StreamSpec, dialect: &Dialect, nested: Nested) -> Result<Self, Reason> {
        let full = match &spec.namespace {
            Some(namespace) => format!("{namespace}_{}", spec.name),
            None => spec.name.clone(),
        };
        let name = stream_table(dialect, &full)?;
        let by_key = spec.mode == LoadMode::Upsert && !spec.primary_key.is_empty();
        // The rows of a list would have to go with the row that they replace.
        let nested = if by_key && nested == Nested::Tables { Nested::Flatten } else { nested };
        let mut declared = Declared::new(name, nested, dialect, &[]);
        let fields = declared.fields(&spec.json_schema);
        let mut key = Vec::with_capacity(spec.primary_key.len());
        for path in &spec.primary_key {
            let column = column_at(&fields, path).map(str::to_owned).unwrap_or_else(|| declared.name(path));
            key.push((path.clone(), column));
        }
        let mut table = declared.finish(fields);
        table.set_write(&write_mode(spec, &key));
        Ok(Self { key, ..table })
    }

    /// Lists change as the rows that have them.
    fn set_write(&mut self, write: &WriteMode) {
        self.write = write.clone();
        lists_of(&mut self.fields, &mut |list| list.set_write(write));
    }

    /// This table and those of its lists.
    pub(crate) fn with_lists(&self) -> Vec<&Self> {
        let mut tables = vec![self];
        add_lists(&self.fields, &mut tables);
        tables
    }

    /// The column of a field that the schema does not tell of. It is never one of the declared columns.
    pub(crate) fn column_of_undeclared(&self, path: &[String], dialect: &Dialect) -> String {
        let name = stream_column(dialect, &path.join("_"));
        if self.columns.contains_key(&name) { marked_by_path(dialect, &name, path) } else { name }
    }
}

/// The name with a mark of the field's whole path.
pub(crate) fn marked_by_path(dialect: &Dialect, name: &str, path: &[String]) -> String {
    // No JSON text of a key has this sign as it stands, so that ("a", "b") and ("a.b") differ.
    marked(dialect, name, &path.join("\0"))
}

/// The column of a declared field.
fn column_at<'f>(fields: &'f Fields, path: &[String]) -> Option<&'f str> {
    let (first, rest) = path.split_first()?;
    match fields.get(first)? {
        Field::Column { name, .. } if rest.is_empty() => Some(name),
        Field::Column { .. } | Field::List(_) => None,
        Field::Object(inner) => column_at(inner, rest),
    }
}

fn lists_of(fields: &mut Fields, each: &mut impl FnMut(&mut StreamTable)) {
    for field in fields.values_mut() {
        match field {
            Field::Column { .. } => {}
            Field::Object(inner) => lists_of(inner, each),
            Field::List(table) => each(table),
        }
    }
}

fn add_lists<'f>(fields: &'f Fields, tables: &mut Vec<&'f StreamTable>) {
    for field in fields.values() {
        match field {
            Field::Column { .. } => {}
            Field::Object(inner) => add_lists(inner, tables),
            Field::List(table) => {
                tables.push(table);
                add_lists(&table.fields, tables);
            }
        }
    }
}

fn spelled(dialect: &Dialect, name: &str) -> String {
    if dialect.upper_case { name.to_ascii_uppercase() } else { name.to_owned() }
}

fn document(dialect: &Dialect) -> FieldType {
    if dialect.json_columns { FieldType::Json } else { FieldType::String }
}

/// Declared fields as they become columns. No two become one: the field that is called like the column has it,
/// else the first in order; the others get a mark.
struct Declared<'d> {
    /// The table's name.
    table: String,
    dialect: &'d Dialect,
    nested: Nested,
    columns: TableSchema,
    taken: BTreeSet<String>,
    path: Vec<String>,
    /// How many tables it is in.
    depth: usize,
}

impl<'d> Declared<'d> {
    fn new(table: String, nested: Nested, dialect: &'d Dialect, more: &[(&str, FieldType)]) -> Self {
        let mut own = vec![
            (EXTRACTED_AT, FieldType::DateTime),
            (META, document(dialect)),
            (LOADED_AT, FieldType::DateTime),
        ];
        own.extend_from_slice(more);
        let columns: TableSchema =
            own.into_iter().map(|(name, field_type)| (spelled(dialect, name), field_type)).collect();
        let mut taken: BTreeSet<String> = columns.keys().cloned().collect();
        taken.insert(spelled(dialect, ID));
        Self { table, dialect, nested, columns, taken, path: Vec::new(), depth: 0 }
    }

    fn finish(self, fields: Fields) -> StreamTable {
        let Self { table: name, dialect, nested, mut columns, .. } = self;
        let mut lists = Vec::new();
        add_lists(&fields, &mut lists);
        let id = (!lists.is_empty()).then(|| spelled(dialect, ID));
        columns.extend(id.clone().map(|id| (id, FieldType::String)));
        StreamTable {
            name,
            columns,
            fields,
            key: Vec::new(),
            write: WriteMode::Append,
            nested,
            extracted_at: spelled(dialect, EXTRACTED_AT),
            meta: spelled(dialect, META),
            id,
            of_list: None,
        }
    }
}

impl Declared<'_> {
    fn fields(&mut self, schema: &Value) -> Fields {
        let mut fields = Fields::new();
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return fields };
        let is_plain = |field: &str| stream_column(self.dialect, field) == field;
        let (plain, others): (Vec<_>, Vec<_>) = properties.iter().partition(|(field, _)| is_plain(field));
        for (field, schema) in plain.into_iter().chain(others) {
            self.path.push(field.clone());
            let becomes = self.field(schema);
            fields.insert(field.clone(), becomes);
            self.path.pop();
        }
        fields
    }

    fn field(&mut self, schema: &Value) -> Field {
        let is_flat = self.nested != Nested::Json && self.path.len() < MAX_DEPTH;
        if is_flat && is_object(schema) {
            return Field::Object(self.fields(schema));
        }
        let path = self.path.clone();
        let name = self.name(&path);
        if self.nested == Nested::Tables
            && self.depth < MAX_DEPTH
            && let Some(values) = list_values(schema)
        {
            return Field::List(Box::new(self.list(&name, values)));
        }
        let field_type = column_type(schema, self.dialect);
        self.columns.insert(name.clone(), field_type);
        Field::Column { name, field_type }
    }

    /// The table of a list of such values.
    fn list(&self, column: &str, values: &Value) -> StreamTable {
        let dialect = self.dialect;
        let more = [(PARENT_ID, FieldType::String), (INDEX, FieldType::Int)];
        let name = list_table(dialect, &self.table, column);
        let mut declared = Declared::new(name, self.nested, dialect, &more);
        declared.depth = self.depth + 1;
        let fields = declared.fields(values);
        let mut value = None;
        if !is_object(values) {
            let own = (spelled(dialect, VALUE), column_type(values, dialect));
            declared.columns.insert(own.0.clone(), own.1);
            value = Some(own);
        }
        let of_list =
            OfList { parent_id: spelled(dialect, PARENT_ID), index: spelled(dialect, INDEX), value };
        StreamTable { of_list: Some(of_list), ..declared.finish(fields) }
    }

    fn name(&mut self, path: &[String]) -> String {
        let name = stream_column(self.dialect, &path.join("_"));
        if self.taken.insert(name.clone()) {
            return name;
        }
        let marked = marked_by_path(self.dialect, &name, path);
        self.taken.insert(marked.clone());
        marked
    }
}

/// Whether the field can only be an object whose fields are known.
fn is_object(schema: &Value) -> bool {
    let mut types = Vec::new();
    types_of(schema, &mut types);
    types.retain(|own| own.name != "null");
    matches!(types.as_slice(), [only] if only.name == "object") && schema.get("properties").is_some()
}

/// The schema of the values of a field that can only be a list, where it has one.
fn list_values(schema: &Value) -> Option<&Value> {
    let mut types = Vec::new();
    types_of(schema, &mut types);
    types.retain(|own| own.name != "null");
    let is_list = matches!(types.as_slice(), [only] if only.name == "array");
    schema.get("items").filter(|items| is_list && (is_object(items) || is_plain(items)))
}

/// Whether values have a column type that is no document.
fn is_plain(schema: &Value) -> bool {
    let mut types = Vec::new();
    types_of(schema, &mut types);
    types.retain(|own| own.name != "null");
    matches!(types.as_slice(), [only] if only.field_type().is_some())
}

/// A stream without a primary key cannot be upserted: its rows are added.
fn write_mode(spec: &StreamSpec, key: &[(Vec<String>, String)]) -> WriteMode {
    match spec.mode {
        LoadMode::Overwrite => WriteMode::Stage { generation: spec.generation },
        LoadMode::Upsert if !key.is_empty() => {
            WriteMode::Upsert { key: key.iter().map(|(_, column)| column.clone()).collect() }
        }
        LoadMode::Upsert | LoadMode::Append => WriteMode::Append,
    }
}

/// The column type of a field's JSON Schema. A field that may be of several types, or of one that has
/// no column type, is a document.
fn column_type(schema: &Value, dialect: &Dialect) -> FieldType {
    let document = document(dialect);
    let mut types = Vec::new();
    types_of(schema, &mut types);
    types.retain(|own| own.name != "null");
    types.dedup();
    match types.as_slice() {
        [only] => only.field_type().unwrap_or(document),
        // An integer is a number too.
        [a, b] if [a.name, b.name] == ["integer", "number"] || [a.name, b.name] == ["number", "integer"] => {
            FieldType::Float
        }
        _ => document,
    }
}

#[derive(Debug, PartialEq)]
struct JsonType<'a> {
    name: &'a str,
    format: Option<&'a str>,
    airbyte_type: Option<&'a str>,
    /// Singer's sign of a decimal: the number is a multiple of 0.01.
    has_step: bool,
}

impl JsonType<'_> {
    fn field_type(&self) -> Option<FieldType> {
        Some(match (self.name, self.format, self.airbyte_type) {
            (_, _, Some("big_number" | "big_integer")) => FieldType::Decimal,
            ("integer", ..) | ("number", _, Some("integer")) => FieldType::Int,
            ("number", ..) if self.has_step => FieldType::Decimal,
            ("number", ..) => FieldType::Float,
            ("boolean", ..) => FieldType::Boolean,
            ("string", Some("date-time"), Some("timestamp_without_timezone")) => FieldType::LocalDateTime,
            ("string", Some("date-time"), _) => FieldType::DateTime,
            ("string", Some("date"), _) => FieldType::Date,
            // A time of day with a zone of its own has no column type.
            ("string", _, Some("time_with_timezone")) => FieldType::String,
            ("string", Some("time"), _) | ("string", _, Some("time_without_timezone")) => FieldType::Time,
            ("string", Some("uuid"), _) => FieldType::Uuid,
            ("string", ..) => FieldType::String,
            _ => return None,
        })
    }
}

/// All types that a schema allows, those of its alternatives included.
fn types_of<'a>(schema: &'a Value, types: &mut Vec<JsonType<'a>>) {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let own = |name| JsonType {
        name,
        format: text("format"),
        airbyte_type: text("airbyte_type"),
        has_step: schema.get("multipleOf").is_some(),
    };
    match schema.get("type") {
        Some(Value::String(name)) => types.push(own(name)),
        Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str).map(own)),
        _ => {}
    }
    for alternatives in ["oneOf", "anyOf"] {
        if let Some(Value::Array(alternatives)) = schema.get(alternatives) {
            alternatives.iter().for_each(|alternative| types_of(alternative, types));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
