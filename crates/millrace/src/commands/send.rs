//! `millrace send`: a test event through the same door as every other.

use std::time::{Duration, Instant};

use millrace_connector::Warehouse;
use millrace_service::config::{Config, Mode, SourceConfig, Target};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cli::{Output, SendArgs};
use crate::commands::query;
use crate::exit::Failure;
use crate::installation::read_config;
use crate::{output, stages};

/// Between two looks into a warehouse.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// `millrace send [TYPE] [--wait]`.
pub(crate) async fn run(args: &SendArgs, output: Output) -> Result<(), Failure> {
    let config = read_config(&args.place, Mode::Dev)?;
    let source = pick(&config, args.source.as_deref())?;
    let message_id = Uuid::new_v4().to_string();
    let event = event(args, &message_id)?;
    let url = args
        .url
        .clone()
        .unwrap_or_else(|| format!("{}://{}", config.ingest.scheme(), reachable(&config.ingest.listen)));
    let began = Instant::now();
    post(&url, source, &args.event_type, &event).await?;
    let acked = began.elapsed();
    let mut arrived = Vec::new();
    if args.wait {
        arrived = wait(args, &config, source, &message_id, began).await?;
    }
    let json = json!({
        "message_id": message_id,
        "acked_after_ms": acked.as_millis() as u64,
        "arrived": arrived.iter().map(|(warehouse, after)| json!({"warehouse": warehouse, "after_ms": after.as_millis() as u64})).collect::<Vec<_>>(),
    });
    let mut text = format!("{} {message_id}: in Kafka after {} ms", args.event_type, acked.as_millis());
    for (warehouse, after) in &arrived {
        text.push_str(&format!("\n  in warehouse {warehouse} after {} ms", after.as_millis()));
    }
    output::result(output, &json, text);
    Ok(())
}

fn pick<'c>(config: &'c Config, asked: Option<&str>) -> Result<&'c SourceConfig, Failure> {
    let takes_events = |source: &&SourceConfig| !source.is_webhook() && source.write_key.is_some();
    let sources: Vec<_> = stages::http_sources(config).filter(takes_events).collect();
    match (asked, sources.as_slice()) {
        (Some(id), all) => all.iter().find(|source| source.id.as_str() == id).copied().ok_or_else(|| {
            Failure::Usage(format!("there is no source {id:?} of kind http with a write key in the config"))
        }),
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::Usage("the config has no source of kind http".to_owned())),
        (None, _) => Err(Failure::Usage("say which source with --source".to_owned())),
    }
}

fn event(args: &SendArgs, message_id: &str) -> Result<Value, Failure> {
    let properties: Map<String, Value> = serde_json::from_str(&args.properties)
        .map_err(|error| Failure::Usage(format!("--properties is not a JSON object: {error}")))?;
    let mut event = json!({
        "messageId": message_id,
        "userId": args.user,
        "channel": "server",
        "context": {"library": {"name": "millrace send", "version": env!("CARGO_PKG_VERSION")}},
    });
    let mut set = |name: &str, value: Value| event[name] = value;
    match args.event_type.as_str() {
        "track" => {
            set("event", json!(args.event));
            set("properties", Value::Object(properties));
        }
        "page" | "screen" => {
            set("name", json!(args.event));
            set("properties", Value::Object(properties));
        }
        "group" => {
            set("groupId", json!("test-group"));
            set("traits", Value::Object(properties));
        }
        "alias" => set("previousId", json!(format!("{}-before", args.user))),
        _ => set("traits", Value::Object(properties)),
    }
    Ok(event)
}

/// A listener on all addresses is reached on loopback.
fn reachable(listen: &str) -> String {
    listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
}

async fn post(url: &str, source: &SourceConfig, event_type: &str, event: &Value) -> Result<(), Failure> {
    millrace_service::install_tls();
    let key = source.write_key.as_ref().map_or("", |keys| keys.first());
    let request = reqwest::Client::new()
        .post(format!("{}/v1/{event_type}", url.trim_end_matches('/')))
        .basic_auth(key, Some(""))
        .timeout(Duration::from_secs(30))
        .body(event.to_string());
    let response = request.send().await.map_err(|error| {
        Failure::Unreachable(format!(
            "ingest at {url} does not answer: {error}; is `millrace dev` or `millrace ingest` running?"
        ))
    })?;
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    if status.is_success() {
        return Ok(());
    }
    Err(Failure::Failed(format!("ingest answered {status}: {}", body.trim())))
}

/// Waits until a row with the message id is in each warehouse that the source leads to.
async fn wait(
    args: &SendArgs,
    config: &Config,
    source: &SourceConfig,
    message_id: &str,
    began: Instant,
) -> Result<Vec<(String, Duration)>, Failure> {
    let mut arrived = Vec::new();
    for connection in config.connections.iter().filter(|connection| connection.from == source.id) {
        let Target::Warehouse { id, schema, .. } = &connection.to else { continue };
        let Some(warehouse) = config.warehouses.iter().find(|warehouse| warehouse.id == *id) else {
            continue;
        };
        let opened = query::open(warehouse, &args.place)?;
        let table = table(&args.event_type);
        // The id was made here and is a UUID: nothing in it needs quoting.
        let sql = format!("SELECT id FROM {schema}.{table} WHERE id = '{message_id}'");
        while !is_there(opened.as_ref(), &sql).await {
            if began.elapsed() > Duration::from_secs(args.timeout) {
                return Err(Failure::Failed(format!(
                    "after {} s the event is not in warehouse {id}; it is safe in Kafka: look at /readyz for what the loader waits for",
                    args.timeout
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        arrived.push((id.to_string(), began.elapsed()));
    }
    Ok(arrived)
}

fn table(event_type: &str) -> &'static str {
    match event_type {
        "identify" => "identifies",
        "page" => "pages",
        "screen" => "screens",
        "group" => "groups",
        "alias" => "aliases",
        _ => "tracks",
    }
}

/// A warehouse that does not answer yet, or has no such table yet, does not have the row yet.
async fn is_there(warehouse: &dyn Warehouse, sql: &str) -> bool {
    query::rows(warehouse, sql, 1).await.is_ok_and(|(_, rows, _)| !rows.is_empty())
}
