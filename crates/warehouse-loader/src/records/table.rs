//! The table of a stream: its name, columns and key, from what the source says of the stream.

use std::collections::BTreeMap;

use millrace_columnar::TableSchema;
use millrace_connector::{Dialect, WriteMode};
use millrace_event_model::{FieldType, LoadMode, Reason, StreamSpec};
use serde_json::Value;

use crate::rows::{stream_column, stream_table};

/// When the source emitted the row.
pub(crate) const EXTRACTED_AT: &str = "_millrace_extracted_at";

/// When the row was loaded; filled by the plan. The same name as in the tables of events.
pub(crate) const LOADED_AT: &str = "uuid_ts";

/// A stream's table in one warehouse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamTable {
    pub(crate) name: String,
    /// The declared columns, and the two that every table has.
    pub(crate) columns: TableSchema,
    /// For each declared field, its column and type.
    pub(crate) fields: BTreeMap<String, (String, FieldType)>,
    /// The primary key: the path to each part and its column.
    pub(crate) key: Vec<(Vec<String>, String)>,
    pub(crate) write: WriteMode,
    /// See [`EXTRACTED_AT`], in the warehouse's spelling.
    pub(crate) extracted_at: String,
}

impl StreamTable {
    /// `<namespace>_<name>`, or the name alone where there is no namespace, made safe as tables of events
    /// are. Two fields whose names become one column share it: the later by name wins, as in events.
    ///
    /// # Errors
    /// The stream's name, or a key's, has nothing that a name can be made of.
    pub(crate) fn of(spec: &StreamSpec, dialect: &Dialect) -> Result<Self, Reason> {
        let full = match &spec.namespace {
            Some(namespace) => format!("{namespace}_{}", spec.name),
            None => spec.name.clone(),
        };
        let spelled =
            |name: &str| if dialect.upper_case { name.to_ascii_uppercase() } else { name.to_owned() };
        let mut table = Self {
            name: stream_table(dialect, &full)?,
            columns: TableSchema::new(),
            fields: BTreeMap::new(),
            key: Vec::new(),
            write: WriteMode::Append,
            extracted_at: spelled(EXTRACTED_AT),
        };
        if let Some(Value::Object(properties)) = spec.json_schema.get("properties") {
            for (field, schema) in properties {
                let Some(column) = stream_column(dialect, field) else { continue };
                let own = column_type(schema, dialect);
                table.columns.insert(column.clone(), own);
                table.fields.insert(field.clone(), (column, own));
            }
        }
        for path in &spec.primary_key {
            let column = stream_column(dialect, &path.join("_")).ok_or_else(|| {
                Reason::new("empty_name", format!("a primary key of stream {} has no name", spec.name))
            })?;
            table.key.push((path.clone(), column));
        }
        table.write = write_mode(spec, &table.key);
        table.columns.insert(table.extracted_at.clone(), FieldType::DateTime);
        table.columns.insert(spelled(LOADED_AT), FieldType::DateTime);
        Ok(table)
    }
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
    let document = if dialect.json_columns { FieldType::Json } else { FieldType::String };
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
}

impl JsonType<'_> {
    fn field_type(&self) -> Option<FieldType> {
        match (self.name, self.format, self.airbyte_type) {
            ("integer", ..) | ("number", _, Some("integer" | "big_integer")) => Some(FieldType::Int),
            ("number", ..) => Some(FieldType::Float),
            ("boolean", ..) => Some(FieldType::Boolean),
            ("string", Some("date-time" | "date"), _) => Some(FieldType::DateTime),
            ("string", ..) => Some(FieldType::String),
            _ => None,
        }
    }
}

/// All types that a schema allows, those of its alternatives included.
fn types_of<'a>(schema: &'a Value, types: &mut Vec<JsonType<'a>>) {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let own = |name| JsonType { name, format: text("format"), airbyte_type: text("airbyte_type") };
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
mod tests {
    use millrace_connector::dialect;
    use serde_json::json;

    use super::*;

    fn spec(json_schema: Value) -> StreamSpec {
        StreamSpec {
            name: "Users".into(),
            namespace: None,
            json_schema,
            primary_key: vec![vec!["id".into()]],
            mode: LoadMode::Upsert,
            generation: 0,
        }
    }

    #[test]
    fn a_field_has_the_column_type_of_its_schema() {
        let postgres = dialect("postgres").unwrap();
        let cases = [
            (json!({"type": "integer"}), FieldType::Int),
            (json!({"type": ["null", "integer"]}), FieldType::Int),
            (json!({"type": "number", "airbyte_type": "integer"}), FieldType::Int),
            (json!({"type": ["number", "null"]}), FieldType::Float),
            (json!({"type": ["integer", "number"]}), FieldType::Float),
            (json!({"type": "boolean"}), FieldType::Boolean),
            (json!({"type": "string"}), FieldType::String),
            (json!({"type": "string", "format": "date-time"}), FieldType::DateTime),
            (json!({"type": "string", "format": "date"}), FieldType::DateTime),
            (json!({"type": "string", "format": "time"}), FieldType::String),
            (json!({"type": ["null", "object"]}), FieldType::Json),
            (json!({"type": "array"}), FieldType::Json),
            (
                json!({"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]}),
                FieldType::DateTime,
            ),
            (json!({"type": ["string", "integer"]}), FieldType::Json),
            (json!({}), FieldType::Json),
        ];
        for (schema, expected) in cases {
            assert_eq!(column_type(&schema, postgres), expected, "{schema}");
        }
        assert_eq!(column_type(&json!({"type": "object"}), dialect("lake").unwrap()), FieldType::String);
    }

    #[test]
    fn a_stream_has_a_table_of_its_columns() {
        let schema = json!({"properties": {"id": {"type": "integer"}, "createdAt": {"type": "string"}}});
        let table = StreamTable::of(&spec(schema), dialect("postgres").unwrap()).unwrap();
        assert_eq!(table.name, "users");
        assert_eq!(table.write, WriteMode::Upsert { key: vec!["id".into()] });
        let columns: Vec<_> = table.columns.keys().map(String::as_str).collect();
        assert_eq!(columns, ["_millrace_extracted_at", "created_at", "id", "uuid_ts"]);
    }

    #[test]
    fn a_namespace_is_part_of_the_tables_name_and_a_mode_of_its_writing() {
        let dialect = dialect("postgres").unwrap();
        let full = StreamSpec { namespace: Some("public".into()), ..spec(json!({})) };
        assert_eq!(StreamTable::of(&full, dialect).unwrap().name, "public_users");
        let keyless = StreamSpec { primary_key: Vec::new(), ..spec(json!({})) };
        assert_eq!(StreamTable::of(&keyless, dialect).unwrap().write, WriteMode::Append);
        let refresh = StreamSpec { mode: LoadMode::Overwrite, generation: 3, ..spec(json!({})) };
        assert_eq!(StreamTable::of(&refresh, dialect).unwrap().write, WriteMode::Stage { generation: 3 });
    }
}
