//! `millrace demo-source`: a small program that speaks the Airbyte protocol on stdout, so that the demo
//! reads a real subprocess without Python. Two streams: `customers` is incremental with a primary key,
//! `plans` is a full refresh.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Rows of the incremental stream, unless the settings say `count`.
const DEFAULT_CUSTOMERS: u64 = 120;
/// A state follows every so many rows.
const ROWS_PER_STATE: u64 = 50;
/// Fixed, so that two runs of the demo print the same: 2026-11-01T00:00:00Z.
const EMITTED_AT_MS: u64 = 1_793_491_200_000;

/// The commands of an Airbyte source.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Prints which settings there are.
    Spec,
    /// Prints whether the settings work.
    Check(SourceArgs),
    /// Prints the streams.
    Discover(SourceArgs),
    /// Prints rows and states.
    Read(SourceArgs),
}

/// The files that an Airbyte platform hands over.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// The settings as JSON.
    #[arg(long)]
    config: PathBuf,
    /// The configured catalog as JSON.
    #[arg(long)]
    catalog: Option<PathBuf>,
    /// The state to go on from as JSON.
    #[arg(long)]
    state: Option<PathBuf>,
}

/// Runs one command of the protocol.
///
/// # Errors
/// A file cannot be read or is not JSON, or stdout is closed.
pub(crate) fn run(command: &SourceCommand) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match command {
        SourceCommand::Spec => say(
            &mut out,
            &json!({"type": "SPEC", "spec": {"connectionSpecification": {
                "type": "object",
                "properties": {"count": {"type": "integer", "description": "how many customers there are"}},
            }}}),
        )?,
        SourceCommand::Check(args) => {
            read_json(&args.config)?;
            say(
                &mut out,
                &json!({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}),
            )?;
        }
        SourceCommand::Discover(_) => {
            say(&mut out, &json!({"type": "CATALOG", "catalog": {"streams": [customers(), plans()]}}))?;
        }
        SourceCommand::Read(args) => read(&mut out, args)?,
    }
    out.flush()
}

fn customers() -> Value {
    json!({
        "name": "customers",
        "json_schema": {"type": "object", "properties": {
            "id": {"type": "integer"},
            "user_id": {"type": "string"},
            "company": {"type": "string"},
            "seats": {"type": "integer"},
            "spend": {"type": "number"},
            "active": {"type": "boolean"},
            "updated_at": {"type": "string", "format": "date-time"},
            "address": {"type": "object"},
        }},
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_cursor": true,
        "default_cursor_field": ["id"],
        "source_defined_primary_key": [["id"]],
    })
}

fn plans() -> Value {
    json!({
        "name": "plans",
        "json_schema": {"type": "object", "properties": {
            "code": {"type": "string"},
            "monthly_price": {"type": "number"},
        }},
        "supported_sync_modes": ["full_refresh"],
    })
}

fn read(out: &mut impl Write, args: &SourceArgs) -> io::Result<()> {
    let settings = read_json(&args.config)?;
    let count = settings["count"].as_u64().unwrap_or(DEFAULT_CUSTOMERS);
    let catalog = args.catalog.as_deref().map(read_json).transpose()?.unwrap_or_default();
    let state = args.state.as_deref().map(read_json).transpose()?.unwrap_or_default();
    let wanted: Vec<&str> = catalog["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["stream"]["name"].as_str())
        .collect();
    if wanted.contains(&"customers") {
        read_customers(out, count, last_id(&state))?;
    }
    if wanted.contains(&"plans") {
        for (code, price) in [("free", 0.0), ("team", 49.0), ("business", 199.5)] {
            record(out, "plans", &json!({"code": code, "monthly_price": price}))?;
        }
    }
    Ok(())
}

fn read_customers(out: &mut impl Write, count: u64, from: u64) -> io::Result<()> {
    for id in from + 1..=count {
        record(
            out,
            "customers",
            &json!({
                "id": id,
                "user_id": format!("user-{id}"),
                "company": format!("Company {id} GmbH"),
                "seats": id % 40 + 1,
                "spend": (id * 37 % 1000) as f64 + 0.5,
                "active": id % 7 != 0,
                "updated_at": format!("2026-11-{:02}T{:02}:00:00Z", id % 28 + 1, id % 24),
                "address": {"city": if id % 2 == 0 { "Berlin" } else { "Zürich" }, "email": format!("billing{id}@example.com")},
            }),
        )?;
        if id % ROWS_PER_STATE == 0 || id == count {
            say(
                out,
                &json!({"type": "STATE", "state": {"type": "STREAM", "stream": {
                    "stream_descriptor": {"name": "customers"},
                    "stream_state": {"last_id": id},
                }}}),
            )?;
        }
    }
    Ok(())
}

/// The platform hands over a list of state messages; ours is the one of `customers`.
fn last_id(state: &Value) -> u64 {
    let states = state.as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = states.iter().find(|message| message["stream"]["stream_descriptor"]["name"] == "customers");
    ours.and_then(|message| message["stream"]["stream_state"]["last_id"].as_u64()).unwrap_or(0)
}

fn record(out: &mut impl Write, stream: &str, row: &Value) -> io::Result<()> {
    say(
        out,
        &json!({"type": "RECORD", "record": {"stream": stream, "data": row, "emitted_at": EMITTED_AT_MS}}),
    )
}

fn say(out: &mut impl Write, message: &Value) -> io::Result<()> {
    writeln!(out, "{message}")
}

fn read_json(path: &Path) -> io::Result<Value> {
    let text = std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}
