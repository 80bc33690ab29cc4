//! The benchmark of loading warehouses: `just bench-warehouse`.
//!
//! A topic is filled with events of which each gives one row in `tracks` and one in the table of its name. The
//! built binary loads it with `load --once` into an empty warehouse, several times over and in turn with the
//! floors: the same rows through raw COPY, and a consumer that only reads. After each load the warehouse is
//! asked what it holds; a load that left something out, or doubled it, has no figures.
//!
//! `events.rs` (what is loaded), `loader.rs` (what is measured), `floors.rs` (floors and peers), `table.rs`.

pub(crate) mod events;
mod fill;
mod floors;
mod loader;
mod measured;
mod postgres;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

use millrace_event_model::Workspace;
use millrace_event_model::topics::EVENTS;

use crate::calibrate;
use crate::error::BenchError;
use crate::gateway::lane;
use crate::kafka::Kafka;
use crate::machine::Machine;
use floors::{Format, Peers};
use loader::{Loader, Way};
use postgres::Postgres;
use table::Results;

pub(crate) use fill::fill;
pub(crate) use floors::consumer as consumer_floor;
pub(crate) use measured::Cost;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct WarehouseArgs {
    /// All of them if none is named.
    ways: Vec<Way>,
    /// In the topic.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// The binary that loads.
    #[arg(long)]
    millrace: Option<PathBuf>,
    /// Where `peers/prepare.sh` has put the peers; without it they are left out.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// So many rows for the peers that are slow: their cost per row does not depend on it much.
    #[arg(long, default_value_t = 100_000)]
    peer_rows: i64,
    /// Leaves the floors out.
    #[arg(long)]
    no_floors: bool,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-warehouse.json")]
    json: PathBuf,
    /// A folder with room for the topic, the tables and the files: some 3 GB for a million events.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Runs a program to its good end, and says what it cost.
pub(crate) fn measure(name: &str, command: std::process::Command) -> Result<Cost, BenchError> {
    Ok(measured::run(name, command, None)?.cost)
}

/// Measures and prints a table in Markdown.
pub(crate) fn run(args: &WarehouseArgs) -> Result<(), BenchError> {
    let ways = if args.ways.is_empty() { &Way::ALL[..] } else { &args.ways };
    // Before the runs: the tree may move on while they go.
    let machine = Machine::look();
    let kafka = Kafka::start()?;
    let server = Postgres::start()?;
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .map_err(BenchError::io("make a folder"))?;
    let name = format!("bench-{}", std::process::id());
    let workspace: Workspace = name.parse().map_err(|error| BenchError::Failed(format!("{error}")))?;
    let topic = EVENTS.lane(&workspace, &lane()?).as_str().to_owned();
    let bodies = folder.path().join("events.ndjson");
    crate::print_progress(&format!("filling a topic with {} events", args.events));
    let sums = fill(&kafka.brokers, &name, &topic, args.events, &bodies)?;

    let mut results = Results {
        machine,
        calibrations: Vec::new(),
        events: sums.events,
        loads: BTreeMap::new(),
        floors: BTreeMap::new(),
        peers: BTreeMap::new(),
        seen_bytes: None,
    };
    let peers =
        args.peers.as_ref().map(|installed| Peers { installed, bodies: &bodies, folder: folder.path() });
    for repetition in 1..=args.repetitions {
        results.calibrations.push(calibrate::calibrate()?);
        for way in ways {
            crate::print_progress(&format!("{repetition}/{}: {}", args.repetitions, way.title()));
            let loader = Loader {
                binary: &binary(args)?,
                folder: folder.path().join("load"),
                way: *way,
                brokers: &kafka.brokers,
                workspace: &name,
                server: &server,
            };
            server.fresh()?;
            results.loads.entry(*way).or_default().push(loader.load(sums)?);
            if way.is_postgres() && !args.no_floors {
                if repetition == 1 {
                    floors::export(&server, folder.path())?;
                    results.seen_bytes = results.seen_bytes.max(Some(server.table_bytes("%seen%")?));
                }
                for format in [Format::Binary, Format::Text] {
                    let cost = floors::copy(&server, folder.path(), format, sums.events)?;
                    results.floors.entry(format.title()).or_default().push(cost);
                }
            }
            std::fs::remove_dir_all(&loader.folder).map_err(BenchError::io("remove the load's folder"))?;
        }
        if !args.no_floors {
            let cost = floors::consumer(&kafka.brokers, &topic, sums.events)?;
            results.floors.entry("floor: librdkafka's consumer alone").or_default().push(cost);
        }
        if let Some(peers) = &peers {
            crate::print_progress(&format!("{repetition}/{}: peers", args.repetitions));
            peers.parquet(sums.events, &mut results.peers)?;
            peers.postgres(&server, args.peer_rows.min(sums.events), &mut results.peers)?;
        }
    }
    kafka.delete(&topic)?;
    table::write(&results, &args.json)?;
    crate::print_line(&table::markdown(&results));
    Ok(())
}

/// Beside this program, where cargo puts both.
fn binary(args: &WarehouseArgs) -> Result<PathBuf, BenchError> {
    let here = std::env::current_exe().map_err(BenchError::io("find this program"))?;
    let binary = args.millrace.clone().unwrap_or_else(|| here.with_file_name("millrace"));
    let binary = std::path::absolute(binary).map_err(BenchError::io("find the binary millrace"))?;
    if binary.exists() {
        return Ok(binary);
    }
    Err(BenchError::Failed(format!("{} is not built", binary.display())))
}
