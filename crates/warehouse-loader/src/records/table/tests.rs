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
        (json!({"type": "string", "format": "date"}), FieldType::Date),
        (json!({"type": "string", "format": "time"}), FieldType::Time),
        (json!({"type": "string", "format": "uuid"}), FieldType::Uuid),
        (
            json!({"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"}),
            FieldType::LocalDateTime,
        ),
        (
            json!({"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"}),
            FieldType::DateTime,
        ),
        (
            json!({"type": "string", "format": "time", "airbyte_type": "time_with_timezone"}),
            FieldType::String,
        ),
        (json!({"type": "string", "airbyte_type": "big_integer"}), FieldType::Decimal),
        (json!({"type": "number", "airbyte_type": "big_number"}), FieldType::Decimal),
        (json!({"type": ["null", "number"], "multipleOf": 0.01}), FieldType::Decimal),
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
    let table = StreamTable::of(&spec(schema), dialect("postgres").unwrap(), Nested::Json).unwrap();
    assert_eq!(table.name, "users");
    assert_eq!(table.write, WriteMode::Upsert { key: vec!["id".into()] });
    let columns: Vec<_> = table.columns.keys().map(String::as_str).collect();
    assert_eq!(columns, ["_meta", "_millrace_extracted_at", "created_at", "id", "uuid_ts"]);
}

#[test]
fn no_two_fields_share_a_column() {
    let long = "x".repeat(70);
    let schema = json!({"properties": {
        "Created At": {"type": "string"}, "createdAt": {"type": "integer"}, "created_at": {"type": "boolean"},
        "_meta": {"type": "object"}, "uuid_ts": {"type": "string"},
        format!("{long}a"): {"type": "string"}, format!("{long}b"): {"type": "string"},
        "a": {"type": "object", "properties": {"b": {"type": "string"}}}, "a_b": {"type": "string"},
    }});
    for nested in [Nested::Json, Nested::Flatten] {
        let table = StreamTable::of(&spec(schema.clone()), dialect("postgres").unwrap(), nested).unwrap();
        // Nine fields and the three columns of every table.
        assert_eq!(table.columns.len(), 12, "{:?}", table.columns);
        assert_eq!(table.columns["created_at"], FieldType::Boolean, "the field that is called so");
        assert_eq!(table.columns["uuid_ts"], FieldType::DateTime);
        assert!(table.columns.keys().all(|name| name.len() <= 63));
    }
}

#[test]
fn a_namespace_is_part_of_the_tables_name_and_a_mode_of_its_writing() {
    let dialect = dialect("postgres").unwrap();
    let full = StreamSpec { namespace: Some("public".into()), ..spec(json!({})) };
    assert_eq!(StreamTable::of(&full, dialect, Nested::Json).unwrap().name, "public_users");
    let keyless = StreamSpec { primary_key: Vec::new(), ..spec(json!({})) };
    assert_eq!(StreamTable::of(&keyless, dialect, Nested::Json).unwrap().write, WriteMode::Append);
    let refresh = StreamSpec { mode: LoadMode::Overwrite, generation: 3, ..spec(json!({})) };
    assert_eq!(
        StreamTable::of(&refresh, dialect, Nested::Json).unwrap().write,
        WriteMode::Stage { generation: 3 }
    );
}
