//! `millrace runs list`, `runs show`: what the loader did, from the log of runs in the state. Neither Kafka nor a
//! warehouse is asked.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use millrace_service::config::{Config, Mode};
use millrace_state::Store;
use millrace_warehouse_loader::{NextAttempt, RunId, RunRecord, run_log};
use serde_json::json;

use crate::cli::{Output, Place, RunsArgs};
use crate::exit::Failure;
use crate::installation::read_config;
use crate::output;

/// As much of an error as fits a line of the list.
const SHORT: usize = 100;

/// `millrace runs list`.
pub(crate) async fn list(args: &RunsArgs, output: Output) -> Result<(), Failure> {
    let config = read_config(&args.place, Mode::Dev)?;
    let store = state(&config)?;
    let known = connections(&store).await?;
    let mut runs = Vec::new();
    for connection in &known {
        if args.connection.as_ref().is_none_or(|only| only == connection) {
            runs.extend(of(&store, connection, &RunId::second(args.since)).await?);
        }
    }
    if let Some(only) = &args.connection
        && !known.contains(only)
        && !config.connections.iter().any(|connection| connection.id.as_str() == only)
    {
        let ids: Vec<&str> = config.connections.iter().map(|connection| connection.id.as_str()).collect();
        return Err(Failure::Usage(format!(
            "there is no connection {only:?} in the config; there are: {}",
            ids.join(", ")
        )));
    }
    runs.retain(|run| !args.failed || run.error.is_some() || run.state.as_str() == "interrupted");
    runs.sort_by(|one, other| one.id.cmp(&other.id));
    let older = runs.len().saturating_sub(args.limit);
    let shown = runs.split_off(older);
    match output {
        Output::Json => shown.iter().for_each(|run| output::line(json!(run).to_string())),
        Output::Text => output::line(text(&shown, older)),
    }
    Ok(())
}

/// `millrace runs show RUN`.
pub(crate) async fn show(place: &Place, name: &str, output: Output) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let store = state(&config)?;
    let mut found = Vec::new();
    for connection in &connections(&store).await? {
        let runs = of(&store, connection, "").await?;
        found.extend(runs.into_iter().filter(|run| run.id.as_str().starts_with(name)));
    }
    let exact = found.iter().position(|run| run.id.as_str() == name);
    let run = match (exact, &found[..]) {
        (Some(index), _) => found.swap_remove(index),
        (None, [_]) => found.swap_remove(0),
        (None, []) => {
            return Err(Failure::Usage(format!("there is no run {name:?}; `millrace runs list` lists them")));
        }
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|run| run.id.as_str()).collect();
            return Err(Failure::Usage(format!("{name:?} is the beginning of {}", names.join(", "))));
        }
    };
    output::result(output, &json!(run), details(&run));
    Ok(())
}

fn state(config: &Config) -> Result<Store, Failure> {
    Ok(Store::open(&config.state)?.child(config.workspace.as_str()))
}

/// All that have a log, those that the config no longer has included.
async fn connections(store: &Store) -> Result<BTreeSet<String>, Failure> {
    let paths = store.list("connections").await?;
    let named = paths.iter().filter_map(|path| {
        let (connection, rest) = path.strip_prefix("connections/")?.split_once('/')?;
        rest.starts_with("runs/").then(|| connection.to_owned())
    });
    Ok(named.collect())
}

async fn of(store: &Store, connection: &str, from: &str) -> Result<Vec<RunRecord>, Failure> {
    let runs = run_log(store, connection).since(from).await?;
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

fn text(runs: &[RunRecord], older: usize) -> String {
    let rows = runs.iter().map(|run| {
        let items = |wanted: bool| -> u64 {
            let of = run.items.iter().filter(|(disposition, _)| (disposition.as_str() == "loaded") == wanted);
            of.map(|(_, items)| items).sum()
        };
        vec![
            run.id.to_string(),
            run.connection.to_string(),
            run.state.as_str().to_owned(),
            took(run.ended - run.began),
            run.loads.to_string(),
            items(true).to_string(),
            items(false).to_string(),
            run.rows.values().sum::<u64>().to_string(),
            run.error.as_ref().map(|error| shortened(&error.message)).unwrap_or_default(),
        ]
    });
    let header = ["run", "connection", "state", "took", "loads", "loaded", "other", "rows", "error"];
    let mut text = output::table(&header, rows);
    let count = runs.len();
    text.push_str(&match older {
        0 => format!("\n({count} runs)"),
        _ => format!("\n({count} runs; {older} older ones: --limit, or --since)"),
    });
    text
}

fn shortened(text: &str) -> String {
    let mut line: String = text.chars().take(SHORT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > SHORT {
        line.push('…');
    }
    line
}

fn details(run: &RunRecord) -> String {
    let mut lines = vec![
        ("run", run.id.to_string()),
        ("connection", run.connection.to_string()),
        ("state", run.state.as_str().to_owned()),
        ("began", time(run.began)),
        ("ended", format!("{} (after {})", time(run.ended), took(run.ended - run.began))),
        ("by", format!("{}, epoch {}", run.holder, run.epoch)),
        ("attempts", run.attempts.to_string()),
        ("loads", run.loads.to_string()),
    ];
    let items = run.items.iter().map(|(disposition, items)| (disposition.as_str().to_owned(), *items));
    lines.push(("items", listed(items)));
    if run.no_consent + run.integrations > 0 {
        let by = [("no_consent", run.no_consent), ("integrations", run.integrations)];
        lines.push(("left out", listed(by.map(|(by, items)| (by.to_owned(), items)))));
    }
    if run.conflicts > 0 {
        let text = format!("{} duplicates whose content was another", run.conflicts);
        lines.push(("conflicts", text));
    }
    lines.push(("rows", listed(run.rows.clone())));
    if run.statements > 0 {
        lines.push(("statements", run.statements.to_string()));
    }
    if run.bytes > 0 {
        lines.push(("bytes", run.bytes.to_string()));
    }
    let ranges = run.ranges.iter();
    let ranges: Vec<String> =
        ranges.map(|range| format!("{}: {} to {}", range.partition, range.start, range.end)).collect();
    lines.push(("offsets", ranges.join(", ")));
    if let Some(error) = &run.error {
        let code = error.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        lines.push(("error", format!("{}{code}", error.message)));
        lines.extend(error.statement.as_ref().map(|statement| ("statement", statement.clone())));
        lines.push(("next", next(error.next).to_owned()));
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<String> = lines
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("{name:<width$}  {text}"))
        .collect();
    lines.join("\n")
}

fn next(next: NextAttempt) -> &'static str {
    match next {
        NextAttempt::Retry => "it is tried again by itself, with growing pauses; nothing is lost meanwhile",
        NextAttempt::StandBack => {
            "somebody has to act; until then it is tried again every 15 s, and what comes waits in Kafka"
        }
        NextAttempt::GaveUp => "nothing by itself: call it again, and it goes on where it stopped",
    }
}

fn listed(counts: impl IntoIterator<Item = (String, u64)>) -> String {
    let counts: BTreeMap<String, u64> = counts.into_iter().collect();
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn took(length: TimeDelta) -> String {
    let seconds = length.as_seconds_f64();
    match length.num_minutes() {
        0 => format!("{seconds:.1} s"),
        minutes => format!("{minutes} m {:02} s", length.num_seconds() % 60),
    }
}
