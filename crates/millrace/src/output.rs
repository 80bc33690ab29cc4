//! Results on stdout, and what is said beside them on stderr: the only place that prints.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::cli::Output;

/// Prints a line. A closed pipe is no error: whoever read it has seen enough.
pub(crate) fn line(text: impl AsRef<str>) {
    let _ = line_if_read(text);
}

/// Prints a line; false when nobody reads any more, so that what never ends by itself ends then.
#[must_use]
pub(crate) fn line_if_read(text: impl AsRef<str>) -> bool {
    let mut out = io::stdout().lock();
    // Nothing can be said on stdout any more, and stderr is for the log.
    writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()).is_ok()
}

/// Prints a result as the user asked for it.
pub(crate) fn result(output: Output, json: &serde_json::Value, text: impl AsRef<str>) {
    match output {
        Output::Text => line(text),
        Output::Json => line(json.to_string()),
    }
}

/// Says something beside the result, on stderr: progress, or what a person should know of it.
#[expect(clippy::print_stderr, reason = "beside the result on stdout")]
pub(crate) fn aside(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// A table with a header, without frames: it can be read, copied and piped.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A table of JSON objects: a column for each name, empty where a row lacks it or has null.
pub(crate) fn table_of(columns: &[impl AsRef<str>], rows: &[Map<String, Value>]) -> String {
    let header: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
    table(&header, rows.iter().map(|row| header.iter().map(|name| cell(row.get(*name))).collect()))
}

/// A JSON value as people read it: text without quotes, null as nothing.
pub(crate) fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
