//! The benchmark of delivering: `just bench-deliver`.
//!
//! A topic is filled with events, and the deliver stage sends all of them to a sink, in requests of a hundred
//! or of one. The stage, the sink and the broker are processes of their own; what is measured is the CPU time
//! of the stage's alone, and how fast the sink got the events. Beside it stand the floors: a consumer that only
//! reads, and the HTTP client that posts the same bodies from memory.
//!
//! `deliverer.rs` (what is measured), `sink.rs`, `floor.rs`, `runs.rs` (one run), `table.rs`.

pub(crate) mod deliverer;
pub(crate) mod floor;
mod runs;
pub(crate) mod sink;
mod table;

use millrace_event_model::Workspace;
use millrace_event_model::topics::EVENTS;

use crate::error::BenchError;
use crate::gateway::lane;
use crate::kafka::Kafka;
use crate::machine::Machine;
use crate::warehouse::{consumer_floor, fill};
use runs::{Run, Stage};
use table::Row;

/// Healthy destinations in the measurement of isolation.
const HEALTHY: usize = 4;

/// The limit that is to be kept, in requests a second.
const RATE: u32 = 500;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct DeliverArgs {
    /// In the topic.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Only those whose title holds this.
    #[arg(long, default_value = "")]
    only: String,
}

/// Measures and prints a table in Markdown.
pub(crate) fn run(args: &DeliverArgs) -> Result<(), BenchError> {
    let machine = Machine::look();
    let kafka = Kafka::start()?;
    let workspace = format!("bench-{}", std::process::id());
    let parsed: Workspace = workspace.parse().map_err(|error| BenchError::Failed(format!("{error}")))?;
    let topic = EVENTS.lane(&parsed, &lane()?).as_str().to_owned();
    let folder = tempfile::tempdir().map_err(BenchError::io("make a folder"))?;
    crate::print_progress(&format!("filling a topic with {} events", args.events));
    fill(&kafka.brokers, &workspace, &topic, args.events, &folder.path().join("events.ndjson"))?;

    let mut rows = planned(args.events);
    rows.retain(|row| row.title.contains(&args.only));
    let mut stage = Stage { brokers: &kafka.brokers, workspace: &workspace, destinations: 0 };
    for repetition in 1..=args.repetitions {
        for row in &mut rows {
            crate::print_progress(&format!("{repetition}/{}: {}", args.repetitions, row.title));
            let figures = match &row.run {
                Run::Stage(plan) => stage.measure(plan)?,
                Run::Post { events, batch } => runs::post(*events, *batch)?,
                Run::Consume => {
                    let events = i64::try_from(args.events).unwrap_or(i64::MAX);
                    runs::of_cost(consumer_floor(&kafka.brokers, &topic, events)?, args.events)
                }
            };
            crate::print_progress(&format!(
                "  {:.2} µs of CPU an event, {:.0} events/s",
                figures.cpu_s * 1e6 / figures.events as f64,
                figures.events_per_s
            ));
            row.figures.push(figures);
        }
    }
    kafka.delete(&topic)?;
    crate::print_line(&table::markdown(&machine, args.events, &rows));
    Ok(())
}

/// The rows of the table. What sends one event a request, and what several destinations share, sends fewer.
fn planned(events: u64) -> Vec<Row> {
    let (fewer, few) = (events / 5, events / 10);
    let well = |count: usize| (0..count).map(|number| format!("/well/{number}")).collect::<Vec<_>>();
    let with = |others: &[&str]| {
        let mut paths = well(HEALTHY);
        paths.extend(others.iter().map(|other| (*other).to_owned()));
        paths
    };
    let plan = |paths: Vec<String>, events: u64, batch: usize| {
        let awaited = paths.iter().filter(|path| path.starts_with("/well/")).cloned().collect();
        runs::Plan { paths, awaited, events, batch, ordered: false, rate: None }
    };
    let stage = |title: &str, paths: Vec<String>, events: u64, batch: usize| {
        Row::new(title, Run::Stage(plan(paths, events, batch)))
    };
    let in_order = runs::Plan { ordered: true, ..plan(well(1), fewer, 100) };
    let flaky = "/flaky/0".to_owned();
    let limited = runs::Plan {
        paths: vec![flaky.clone()],
        awaited: vec![flaky],
        events: u64::from(RATE) * 30,
        batch: 1,
        ordered: true,
        rate: Some(RATE),
    };
    vec![
        stage("requests of 100", well(1), events, 100),
        Row::new("requests of 100, each user's events in order", Run::Stage(in_order)),
        Row::new("floor: consume only", Run::Consume),
        Row::new("floor: post only, requests of 100", Run::Post { events, batch: 100 }),
        stage("a request per event", well(1), fewer, 1),
        Row::new("floor: post only, a request per event", Run::Post { events: fewer, batch: 1 }),
        stage("9 destinations, requests of 100", well(9), few, 100),
        stage("10 destinations, requests of 100", well(10), few, 100),
        stage("4 destinations alone", well(HEALTHY), fewer, 100),
        stage("4 beside a dead one", with(&["/dead/0"]), fewer, 100),
        stage("4 beside a slow one", with(&["/slow/0"]), fewer, 100),
        Row::new("limit of 500 requests/s, 5 % refused", Run::Stage(limited)),
    ]
}
