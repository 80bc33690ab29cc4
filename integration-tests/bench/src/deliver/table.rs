//! The table of `docs/performance.md`.

use std::fmt::Write;

use super::runs::{Figures, Run};
use crate::corpus::SMALL_BYTES;
use crate::machine::Machine;
use crate::report::Median;

/// One row, measured several times.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) run: Run,
    pub(crate) figures: Vec<Figures>,
}

impl Row {
    pub(crate) fn new(title: &str, run: Run) -> Self {
        Self { title: title.to_owned(), run, figures: Vec::new() }
    }

    fn median(&self, pick: impl Fn(&Figures) -> f64, digits: usize) -> String {
        Median::of(self.figures.iter().map(pick)).map_or_else(String::new, |median| median.show(digits))
    }
}

pub(crate) fn markdown(machine: &Machine, events: u64, rows: &[Row]) -> String {
    let Machine { date, commit, cpu, cores, memory_gib, kernel, rust, librdkafka, kafka } = machine;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{date}, commit {commit}; {cores} × {cpu}, {memory_gib} GiB, {kernel}; {rust}, librdkafka {librdkafka}, \
         Apache Kafka {kafka}. A topic of {events} events of {SMALL_BYTES} bytes; median (least–most).\n\n\
         | what | events | CPU µs an event | events/s to each | peak MiB |\n|---|---|---|---|---|"
    );
    for row in rows {
        let Some(first) = row.figures.first() else { continue };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.title,
            first.events,
            row.median(|figures| figures.cpu_s * 1e6 / figures.events as f64, 2),
            row.median(|figures| figures.events_per_s, 0),
            row.median(|figures| figures.peak_mib, 0),
        );
    }
    for row in rows {
        if !matches!(&row.run, Run::Stage(plan) if plan.rate.is_some()) {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{}: in the busiest second {} requests, on average {} a second.",
            row.title,
            row.median(|figures| figures.busiest_second as f64, 0),
            row.median(|figures| figures.requests_per_s, 1),
        );
    }
    text
}
