//! From measurements to the table of `docs/performance.md`, and to JSON for whoever compares runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::events::TABLE;
use super::floors::{Format, PeerCosts};
use super::loader::Way;
use super::measured::Cost;
use crate::calibrate::Calibration;
use crate::corpus::SMALL_BYTES;
use crate::error::BenchError;
use crate::machine::Machine;
use crate::report::Median;

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) calibrations: Vec<Calibration>,
    pub(crate) events: i64,
    pub(crate) loads: BTreeMap<Way, Vec<Cost>>,
    pub(crate) floors: BTreeMap<&'static str, Vec<Cost>>,
    pub(crate) peers: PeerCosts,
    /// What PostgreSQL keeps of the ids that were seen, indexes included.
    pub(crate) seen_bytes: Option<u64>,
}

pub(crate) fn write(results: &Results, file: &Path) -> Result<(), BenchError> {
    let json =
        serde_json::to_string_pretty(results).map_err(|error| BenchError::Failed(error.to_string()))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(BenchError::io(format!("make {}", folder.display())))?;
    }
    std::fs::write(file, json).map_err(BenchError::io(format!("write {}", file.display())))
}

/// One table, what it was measured on, and how noisy that was.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let Machine { date, commit, cpu, cores, memory_gib, kernel, rust, librdkafka, kafka } = &results.machine;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{date}, commit {commit}; {cores} × {cpu}, {memory_gib} GiB, {kernel}; {rust}, librdkafka {librdkafka}, Apache Kafka {kafka}. \
         {} events of {SMALL_BYTES} bytes, a row each in `tracks` and `{TABLE}`.\n",
        results.events
    );
    let noise = |pick: fn(&Calibration) -> f64| Median::of(results.calibrations.iter().map(pick));
    if let (Some(cpu), Some(wall)) = (noise(|pass| pass.cpu), noise(|pass| pass.wall)) {
        let _ = writeln!(
            text,
            "The calibration loop took {} CPU seconds and {} seconds on the wall: median (least–most), as everywhere below.\n",
            cpu.show(3),
            wall.show(3)
        );
    }
    text.push_str("| | CPU µs per event | server's CPU µs per event | wall s | × binary COPY | events/s | JSON MB per CPU s | MiB peak |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    let floor = results.floors.get(Format::Binary.title());
    let floor = floor.and_then(|costs| Median::of(costs.iter().map(|cost| cost.wall_s)));
    for (way, costs) in &results.loads {
        let floor = floor.filter(|_| way.is_postgres());
        text.push_str(&row(way.title(), costs, results.events, floor));
    }
    for (title, costs) in &results.floors {
        text.push_str(&row(title, costs, results.events, None));
    }
    for (title, (rows, costs)) in &results.peers {
        let title =
            if *rows == results.events { (*title).to_owned() } else { format!("{title} ({rows} rows)") };
        text.push_str(&row(&title, costs, *rows, None));
    }
    if let Some(bytes) = results.seen_bytes.filter(|_| results.events > 0) {
        let each = bytes as f64 / results.events as f64;
        let _ = writeln!(text, "\nPostgreSQL keeps {each:.1} bytes per event of the ids that were seen.");
    }
    text
}

fn row(title: &str, costs: &[Cost], events: i64, floor: Option<Median>) -> String {
    let median = |pick: &dyn Fn(&Cost) -> f64| Median::of(costs.iter().map(pick));
    let show = |median: Option<Median>, digits| {
        median.map_or_else(|| "–".to_owned(), |median: Median| median.show(digits))
    };
    let each = |seconds: f64| seconds * 1e6 / events as f64;
    let server = median(&|cost| each(cost.server_cpu_s)).filter(|server| server.most > 0.0);
    let times = floor.and_then(|floor| median(&|cost| cost.wall_s / floor.middle));
    format!(
        "| {title} | {} | {} | {} | {} | {} | {} | {} |\n",
        show(median(&|cost| each(cost.cpu_s)), 2),
        show(server, 2),
        show(median(&|cost| cost.wall_s), 2),
        show(times, 2),
        show(median(&|cost| events as f64 / cost.wall_s), 0),
        show(median(&|cost| events as f64 * SMALL_BYTES as f64 / 1e6 / cost.cpu_s), 0),
        show(median(&|cost| cost.peak_mib), 0),
    )
}
