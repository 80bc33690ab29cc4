//! `millrace preview`: what a service would do with events, by the very functions of the service.

use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use millrace_connector::{Context, Destination, DestinationEntry, Item, Payload};
use millrace_event_model::{Event, KeyHasher, MessageId};
use millrace_privacy::{HashKey, Policy, Scanner};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::PreviewCommand;
use crate::exit::Failure;
use crate::output;
use crate::secrets::{mask, secrets};

/// A line of input longer than this is no event: it would not fit a topic either.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// `millrace preview …`: a line of stdin, a line of stdout.
pub(crate) fn run(what: &PreviewCommand) -> Result<(), Failure> {
    match what {
        #[cfg(feature = "warehouse-loader")]
        PreviewCommand::Rows { warehouse } => {
            let dialect = millrace_connector::dialect(warehouse).ok_or_else(|| {
                let known: Vec<&str> = millrace_connector::DIALECTS.iter().map(|one| one.kind).collect();
                Failure::Usage(format!(
                    "there is no warehouse kind {warehouse:?}; there are: {}",
                    known.join(", ")
                ))
            })?;
            each_line(|line| millrace_warehouse_loader::preview_rows(line, dialect, Utc::now()))
        }
        PreviewCommand::Requests { destination, settings, show_secrets, connectors } => {
            millrace_service::install_tls();
            let registry = crate::connectors::of_folder(connectors.as_deref())?;
            let Some(entry) = registry.destination_entry(destination) else {
                let known: Vec<&str> = registry.destinations.iter().map(|one| one.kind.as_ref()).collect();
                return Err(Failure::Usage(format!(
                    "there is no destination kind {destination:?}; there are: {}",
                    known.join(", ")
                )));
            };
            let mut hidden = Vec::new();
            let built = match settings {
                Some(file) => {
                    let settings = read_object(file)?;
                    if !show_secrets {
                        hidden = secrets(&(entry.schema)(), &settings);
                    }
                    let refused = |text| Failure::Usage(format!("{}: {text}", file.display()));
                    Ok(built(entry, &settings).map_err(refused)?)
                }
                // Lines in RudderStack's form bring their settings; what others lack is told of each.
                None => built(entry, &example(destination)).map_err(|text| {
                    format!("{text}; --settings FILE brings them, `millrace connectors show {destination}` lists them")
                }),
            };
            each_line(|line| requests(line, entry, &built, &hidden))
        }
        PreviewCommand::Privacy { policy } => {
            let policy: Policy = match policy {
                Some(file) => serde_json::from_value(read_object(file)?)
                    .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?,
                None => Policy::mask_all(),
            };
            // Hashes of a preview are not those of the workspace, whose key stays where it is.
            let scanner = Scanner::new(policy, HashKey::derive(&[0; 32]));
            each_line(|line| privacy(line, &scanner))
        }
    }
}

fn each_line(answer: impl Fn(&str) -> Value) -> Result<(), Failure> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        output::aside("reading events from the terminal: a JSON object a line, Ctrl-D ends them");
    }
    let mut line = Vec::new();
    let mut is_answered = false;
    loop {
        line.clear();
        // A byte more than is allowed tells a line that is too long from one that is not.
        input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            if !is_answered {
                output::aside("there was no event on stdin: give it JSON objects, a line each");
            }
            return Ok(());
        }
        if line.len() as u64 > MAX_LINE_BYTES {
            is_answered = true;
            if !line.ends_with(b"\n") {
                input.skip_until(b'\n')?;
            }
            let error = format!("the line is longer than {MAX_LINE_BYTES} bytes");
            output::line(json!({ "error": error }).to_string());
            continue;
        }
        match std::str::from_utf8(&line).map(str::trim) {
            Ok("") => continue,
            Ok(text) => output::line(answer(text).to_string()),
            Err(_) => output::line(json!({"error": "the line is not UTF-8"}).to_string()),
        }
        is_answered = true;
    }
}

fn privacy(line: &str, scanner: &Scanner) -> Value {
    let scanned = match scanner.scan(line.as_bytes()) {
        Ok(scanned) => scanned,
        Err(error) => return json!({"error": error.to_string()}),
    };
    match serde_json::from_slice::<Value>(&scanned.body) {
        Ok(event) => json!({"event": event, "findings": scanned.findings}),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// Settings for a first look at a kind that can do with an address.
fn example(kind: &str) -> Value {
    if kind == "webhook" { json!({"url": "https://example.com/"}) } else { json!({}) }
}

fn built(entry: &DestinationEntry, settings: &Value) -> Result<Arc<dyn Destination>, String> {
    let context = Context { id: "preview".to_owned(), work_dir: std::env::temp_dir() };
    (entry.build)(settings, &context).map_err(|error| error.full())
}

fn requests(
    line: &str,
    entry: &DestinationEntry,
    built: &Result<Arc<dyn Destination>, String>,
    hidden: &[String],
) -> Value {
    let input: Value = match serde_json::from_str(line) {
        Ok(input @ Value::Object(_)) => input,
        Ok(_) => return json!({"error": "the line is not a JSON object"}),
        Err(error) => return json!({"error": format!("the line is not JSON: {error}")}),
    };
    let made = match (input.get("message"), input.pointer("/destination/Config")) {
        (Some(Value::Object(message)), Some(config)) => {
            // The line itself holds their secrets: it is for programs, which get the very requests.
            millrace_connectors::rudder::requests(entry, config, message.clone())
                .map(|requests| json!(requests))
        }
        _ => built.as_ref().map_err(Clone::clone).and_then(|destination| {
            let requests = destination.transform(&item(&input, line)).map_err(|reason| reason.message)?;
            let mut shown = json!(requests);
            if !hidden.is_empty() {
                mask(&mut shown, hidden);
            }
            Ok(shown)
        }),
    };
    match made {
        Ok(requests) => json!({ "requests": requests }),
        Err(error) => json!({ "error": error }),
    }
}

/// The item that deliver would make of an event that ingest took.
fn item(input: &Value, line: &str) -> Item {
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let message_id = match text("messageId") {
        "" => Uuid::new_v4().to_string(),
        id => id.to_owned(),
    };
    let key = KeyHasher::new(&[0; 32]).person(text("anonymousId"), text("userId"));
    let event = Event {
        event_type: text("type").into(),
        message_id: MessageId(message_id.clone()),
        rudder_id: millrace_event_model::rudder_id(text("userId"), text("anonymousId")),
        received_at: Utc::now(),
        sent_at: None,
        request_ip: None,
        geo: None,
        // A literal that is a valid name.
        source: "preview".parse().unwrap_or_else(|_| unreachable!("a valid name")),
        policy: None,
        traceparent: None,
        key,
        body: line.to_owned().into(),
    };
    Item { id: message_id.into(), key, payload: Payload::Event(event) }
}

fn read_object(file: &Path) -> Result<Value, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("{}{problem}", file.display()));
    let text = std::fs::read(file)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(format!(" is not JSON: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(wrong(" is no JSON object".to_owned())) }
}
