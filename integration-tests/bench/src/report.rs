//! From measurements to the table of `docs/performance.md`, and to JSON for whoever compares runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::error::BenchError;
use crate::floor::producer::ProducerReport;
use crate::latency::Latency;
use crate::load::LoadReport;
use crate::machine::Machine;
use crate::workload::Workload;

/// What the masking workload may cost, as a multiple of the same without masking.
const MASKING_TARGET: f64 = 1.25;

/// All measurements of one workload, one per repetition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) throughput: Vec<LoadReport>,
    pub(crate) memory_mib: Vec<Memory>,
    pub(crate) producer_floor: Vec<ProducerReport>,
    pub(crate) http_floor: Vec<LoadReport>,
    pub(crate) http_half_load: Vec<LoadReport>,
    /// By the producer's linger, in milliseconds.
    pub(crate) latencies: BTreeMap<u64, Latencies>,
}

/// Of the process under test, in MiB.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Started, and nothing sent yet.
    pub(crate) idle: f64,
    /// The most that it ever had.
    pub(crate) peak: f64,
}

/// Measurements at half load: of ingest, and of the producer alone at the same rate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) ingest: Vec<LoadReport>,
    pub(crate) producer: Vec<ProducerReport>,
}

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) calibrations: Vec<Calibration>,
    pub(crate) figures: BTreeMap<Workload, Figures>,
}

/// The middle of several measurements, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Median {
    pub(crate) middle: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Median {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { middle: (low + high) / 2.0, least, most })
    }

    pub(crate) fn show(self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.middle, self.least, self.most)
    }
}

impl LoadReport {
    /// CPU seconds of a process per million acked events.
    fn cpu_per_million(&self, process: &str) -> Option<f64> {
        let cpu = self.cpu.get(process)?.seconds();
        (self.events > 0).then(|| cpu / self.events as f64 * 1e6)
    }

    fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

impl Figures {
    fn cpu(&self, process: &str) -> Option<Median> {
        Median::of(self.throughput.iter().filter_map(|load| load.cpu_per_million(process)))
    }

    fn producer_floor(&self) -> Option<Median> {
        let cost = |report: &ProducerReport| {
            (report.events > 0).then(|| report.cpu.seconds() / report.events as f64 * 1e6)
        };
        Median::of(self.producer_floor.iter().filter_map(cost))
    }

    fn http_floor(&self) -> Option<Median> {
        Median::of(self.http_floor.iter().filter_map(|load| load.cpu_per_million("http")))
    }
}

impl Latencies {
    /// Of the runs that kept up: what was not sent in time has no latency, and the row would flatter.
    fn ingest(&self, pick: impl Fn(&LoadReport) -> f64) -> Option<Median> {
        Median::of(self.ingest.iter().filter(|load| load.unsent == 0).map(pick))
    }
}

pub(crate) fn write(results: &Results, file: &Path) -> Result<(), BenchError> {
    let json =
        serde_json::to_string_pretty(results).map_err(|error| BenchError::Failed(error.to_string()))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(BenchError::io(format!("make {}", folder.display())))?;
    }
    std::fs::write(file, json).map_err(BenchError::io(format!("write {}", file.display())))
}

/// Two tables, what they were measured on, and how noisy that was.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let Machine { date, commit, cpu, cores, memory_gib, kernel, rust, librdkafka, kafka } = &results.machine;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{date}, commit {commit}; {cores} × {cpu}, {memory_gib} GiB, {kernel}; {rust}, librdkafka {librdkafka}, Apache Kafka {kafka}.\n"
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
    text.push_str("| | workload | CPU s per million events | target | floor: producer + HTTP | share of the floor | events/s | MiB idle | MiB peak |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for (workload, figures) in &results.figures {
        let _ = writeln!(text, "{}", cost_row(*workload, figures, target(*workload, results)));
    }
    text.push_str("\nAt half of these events/s, in milliseconds; beside it p99 and the longest of the floors at the same rate:\n\n");
    text.push_str("| | linger | p50 | p99 | p99.9 | longest | producer alone | HTTP alone | events/s |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for (workload, figures) in &results.figures {
        for (linger_ms, latencies) in &figures.latencies {
            let _ = writeln!(text, "{}", latency_row(*workload, *linger_ms, figures, latencies));
        }
    }
    text.push_str("\nCPU s per million events of the others:\n\n| | broker | generator |\n|---|---|---|\n");
    for (workload, figures) in &results.figures {
        let others = ["broker", "load"].map(|process| shown(figures.cpu(process), 2));
        let _ = writeln!(text, "| {} | {} |", workload.name().to_uppercase(), others.join(" | "));
    }
    text
}

fn target(workload: Workload, results: &Results) -> Option<f64> {
    if workload == Workload::W6 {
        let without = results.figures.get(&Workload::W4)?.cpu("ingest")?;
        return Some(without.middle * MASKING_TARGET);
    }
    workload.shape().target
}

fn cost_row(workload: Workload, figures: &Figures, target: Option<f64>) -> String {
    let cpu = figures.cpu("ingest");
    let floors = figures.producer_floor().zip(figures.http_floor());
    let share = cpu.zip(floors).map(|(cpu, (producer, http))| {
        format!("{:.0} %", (producer.middle + http.middle) / cpu.middle * 100.0)
    });
    let events = Median::of(figures.throughput.iter().map(LoadReport::events_per_second));
    let memory = |pick: fn(&Memory) -> f64| {
        Median::of(figures.memory_mib.iter().map(pick))
            .map_or_else(none, |memory| format!("{:.0}", memory.most))
    };
    let floor = floors.map(|(producer, http)| format!("{:.2} + {:.2}", producer.middle, http.middle));
    row(&[
        workload.name().to_uppercase(),
        workload.shape().title.to_owned(),
        shown(cpu, 2),
        target.map_or_else(none, |target| format!("≤ {target:.2}")),
        floor.unwrap_or_else(none),
        share.unwrap_or_else(none),
        shown(events, 0),
        memory(|memory| memory.idle),
        memory(|memory| memory.peak),
    ])
}

fn latency_row(workload: Workload, linger_ms: u64, figures: &Figures, latencies: &Latencies) -> String {
    let producer = latencies.producer.iter().map(|report| report.latency);
    let http = figures.http_half_load.iter().map(|load| load.latency);
    let rate = latencies.ingest(LoadReport::events_per_second);
    row(&[
        workload.name().to_uppercase(),
        format!("{linger_ms} ms"),
        shown(latencies.ingest(|load| load.latency.p50), 2),
        shown(latencies.ingest(|load| load.latency.p99), 2),
        shown(latencies.ingest(|load| load.latency.p999), 2),
        shown(latencies.ingest(|load| load.latency.max), 2),
        tail(producer),
        tail(http),
        rate.map_or_else(none, |rate| format!("{:.0}", rate.middle)),
    ])
}

/// Of a floor: p99, and the longest of all repetitions.
fn tail(latencies: impl Iterator<Item = Latency> + Clone) -> String {
    let (p99, longest) = (
        Median::of(latencies.clone().map(|latency| latency.p99)),
        Median::of(latencies.map(|latency| latency.max)),
    );
    p99.zip(longest).map_or_else(none, |(p99, longest)| format!("{:.2}, {:.2}", p99.middle, longest.most))
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn shown(median: Option<Median>, digits: usize) -> String {
    median.map_or_else(none, |median| median.show(digits))
}

fn none() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(Median::of([]), None);
        assert_eq!(Median::of([3.0, 1.0, 2.0]), Some(Median { middle: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Median::of([4.0, 1.0, 2.0, 3.0]), Some(Median { middle: 2.5, least: 1.0, most: 4.0 }));
    }
}
