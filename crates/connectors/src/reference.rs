//! The reference pages in `docs/connectors`, made of the schemas of settings, which are made of doc comments
//! and YAML files. The tests here hold them equal; `MILLRACE_WRITE_DOCS=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millrace_connector::DisplayName;
use serde_json::{Map, Value};

use crate::declarative::{FUNCTIONS, schema};

const MADE: &str = "<!-- Made of doc comments by `MILLRACE_WRITE_DOCS=1 cargo test -p millrace-connectors --lib reference`. -->";

#[test]
fn the_pages_of_destinations_are_those_of_their_settings() {
    for entry in &crate::registry().destinations {
        let schema = (entry.schema)();
        let mut page = format!("{MADE}\n# `{}`\n\n{}.\n", entry.kind, entry.summary);
        if let Some(about) =
            text(&schema, "description").filter(|about| about.trim_end_matches('.') != entry.summary)
        {
            page.push_str(&format!("\n{about}\n"));
        }
        if let Some(rudder) = &entry.rudder {
            page.push_str(&format!("\nRudderStack calls it `{}`", rudder.name));
            let names: Vec<String> = rudder.display_names.iter().map(display_name).collect();
            if !names.is_empty() {
                page.push_str(&format!(
                    "; events may call it {} in their `integrations`",
                    names.join(" or ")
                ));
            }
            page.push_str(".\n");
        }
        page.push_str("\n## Settings\n\n");
        page.push_str(&tables(&schema));
        held(&format!("{}.md", entry.kind), &page);
    }
}

fn display_name(name: &DisplayName) -> String {
    match name.schemes.first() {
        Some(scheme) => format!("\"{}\" (`{scheme}://…`)", name.name),
        None => format!("\"{}\"", name.name),
    }
}

#[test]
fn the_page_of_the_yaml_is_that_of_its_types() {
    let schema = schema();
    let mut page = format!(
        "{MADE}\n# Destinations in YAML: the reference\n\n{}\n\n",
        text(&schema, "description").unwrap()
    );
    page.push_str("[writing.md](writing.md) takes you through a first one. The JSON Schema for editors is [connector.schema.json](connector.schema.json), or `millrace connectors schema`.\n\n## The file\n\n");
    page.push_str(&tables(&schema));
    page.push_str("\n## Functions\n\nIn expressions as filters (`traits.email | trim | lower`), and in `apply:` those without arguments. [minijinja's own](https://docs.rs/minijinja/latest/minijinja/filters/index.html) are there too.\n\n| function | the value |\n|---|---|\n");
    for (name, _, what) in FUNCTIONS {
        page.push_str(&format!("| `{name}` | {what} |\n"));
    }
    held("reference.md", &page);
}

#[test]
fn the_schema_for_editors_is_the_one_in_the_docs() {
    held("connector.schema.json", &format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap()));
}

fn held(name: &str, content: &str) {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/connectors").join(name);
    if std::env::var_os("MILLRACE_WRITE_DOCS").is_some() {
        std::fs::write(&file, content).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == content, "{} is not what the code says: run with MILLRACE_WRITE_DOCS=1", file.display());
}

/// The fields of a schema, and below it the types that they name.
fn tables(schema: &Value) -> String {
    let mut page = table(schema);
    let none = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&none);
    for (name, definition) in definitions {
        let body = definition_body(definition);
        if !body.is_empty() {
            page.push_str(&format!("\n### {name}\n\n"));
            if let Some(about) = text(definition, "description") {
                page.push_str(&format!("{about}\n\n"));
            }
            page.push_str(&body);
        }
    }
    page
}

fn definition_body(definition: &Value) -> String {
    let own = table(definition);
    if !own.is_empty() {
        return own;
    }
    let variants = ["oneOf", "anyOf"].iter().find_map(|name| definition.get(*name)?.as_array());
    let mut body = String::new();
    for variant in variants.into_iter().flatten() {
        let about = text(variant, "description").unwrap_or_default();
        if let Some(value) = variant.get("const").and_then(Value::as_str) {
            body.push_str(&format!("- `{value}`: {}\n", about.replace('\n', " ")));
        } else if let Some(tag) = variant.pointer("/properties/type/const").and_then(Value::as_str) {
            body.push_str(&format!("\n**`type: {tag}`** {about}\n\n{}", table(variant)));
        }
    }
    body
}

fn table(schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return String::new() };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let rows: BTreeMap<&String, &Value> =
        properties.iter().filter(|(_, property)| property.get("const").is_none()).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut table = "| name | type | | what |\n|---|---|---|---|\n".to_owned();
    for (name, property) in rows {
        let default = property.get("default").filter(|default| !is_empty(default));
        let note = match default {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Some(default) => format!("`{default}`"),
            None => String::new(),
        };
        let about = text(property, "description").unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        table.push_str(&format!("| `{name}` | {} | {note} | {about} |\n", kind(property)));
    }
    table
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn kind(property: &Value) -> String {
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return if name == "Secret" {
            "secret".to_owned()
        } else {
            format!("[{name}](#{})", name.to_lowercase())
        };
    }
    if property.get("writeOnly") == Some(&Value::Bool(true)) {
        return "secret".to_owned();
    }
    if let Some(options) = property.get("enum").and_then(Value::as_array) {
        return options.iter().map(|option| format!("`{option}`")).collect::<Vec<_>>().join(", ");
    }
    for name in ["anyOf", "oneOf"] {
        if let Some(variants) = property.get(name).and_then(Value::as_array) {
            let kinds = variants.iter().filter(|one| one.get("type") != Some(&Value::from("null"))).map(kind);
            return kinds.collect::<Vec<_>>().join(" or ");
        }
    }
    let of = |name: &str| property.get(name).filter(|inner| inner.is_object()).map(kind);
    match property.get("type") {
        Some(Value::Array(kinds)) => {
            let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
            kinds.collect::<Vec<_>>().join(" or ")
        }
        Some(Value::String(kind)) if kind == "array" => {
            of("items").map_or_else(|| "list".to_owned(), |inner| format!("list of {inner}"))
        }
        Some(Value::String(kind)) if kind == "object" => of("additionalProperties")
            .map_or_else(|| "mapping".to_owned(), |inner| format!("mapping to {inner}")),
        Some(Value::String(kind)) => kind.clone(),
        _ => "any".to_owned(),
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str().filter(|text| !text.is_empty())
}
