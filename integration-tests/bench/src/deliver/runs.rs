//! One run: a sink, a stage, and what both say in the end.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::sink::Stats;
use crate::child::Server;
use crate::error::BenchError;
use crate::process::{Cpu, peak_memory_mib};
use crate::warehouse::{Cost, measure};

/// How often the sink is asked.
const LOOK: Duration = Duration::from_millis(50);

/// A stage that has sent everything stores what it has sent within this.
const SETTLE: Duration = Duration::from_millis(1_500);

/// Longer takes no run.
const PATIENCE: Duration = Duration::from_secs(300);

/// Requests under way at once, for each destination.
const CONCURRENCY: usize = 8;

/// What one row of the table runs.
#[derive(Debug, Clone)]
pub(crate) enum Run {
    Stage(Plan),
    Post { events: u64, batch: usize },
    Consume,
}

/// A stage with a destination for each path.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) paths: Vec<String>,
    /// Those that must have had the events before the run is over.
    pub(crate) awaited: Vec<String>,
    /// For each of them. The topic may hold more.
    pub(crate) events: u64,
    pub(crate) batch: usize,
    /// The events of a user are sent in order.
    pub(crate) ordered: bool,
    pub(crate) rate: Option<u32>,
}

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Of the process under test.
    pub(crate) cpu_s: f64,
    /// Events, over all awaited destinations.
    pub(crate) events: u64,
    /// To the slowest of the awaited.
    pub(crate) events_per_s: f64,
    pub(crate) peak_mib: f64,
    /// Of a limited one: the most requests in any second, and how many in a second on average.
    pub(crate) busiest_second: usize,
    pub(crate) requests_per_s: f64,
}

/// The stage in ever new lives, each with new destinations, so that each reads the topic from its beginning.
pub(crate) struct Stage<'s> {
    pub(crate) brokers: &'s str,
    pub(crate) workspace: &'s str,
    pub(crate) destinations: usize,
}

impl Stage<'_> {
    pub(crate) fn measure(&mut self, plan: &Plan) -> Result<Figures, BenchError> {
        let sink = Server::start(&["deliver-sink".to_owned()], None)?;
        let mut arguments = vec!["deliverer".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--brokers", self.brokers.to_owned());
        option("--workspace", self.workspace.to_owned());
        option("--batch", plan.batch.to_string());
        option("--concurrency", CONCURRENCY.to_string());
        if let Some(rate) = plan.rate {
            option("--rate", rate.to_string());
        }
        for path in &plan.paths {
            self.destinations += 1;
            option("--to", format!("d{}=http://{}{path}", self.destinations, sink.address));
        }
        if plan.ordered {
            arguments.push("--ordered".to_owned());
        }
        let stage = Server::start(&arguments, None)?;
        until_sent(&sink.address, plan)?;
        std::thread::sleep(SETTLE);
        let cpu_s = Cpu::of(stage.pid)?.seconds();
        // Now, for a stage that has more to send goes on meanwhile.
        let stats = stats(&sink.address)?;
        let peak_mib = peak_memory_mib(stage.pid)?;
        // Its rest is read with the next run's destinations, and by nobody.
        stage.stop()?;
        sink.stop()?;
        let awaited = plan.awaited.iter().filter_map(|path| stats.get(path)).collect::<Vec<_>>();
        let slowest = awaited.iter().map(|stats| stats.seconds).fold(0.0, f64::max);
        let first = awaited.first();
        Ok(Figures {
            cpu_s,
            events: awaited.iter().map(|stats| stats.events).sum(),
            events_per_s: awaited.iter().map(|stats| stats.events as f64).sum::<f64>()
                / awaited.len() as f64
                / slowest,
            peak_mib,
            busiest_second: first.map_or(0, |stats| stats.busiest_second),
            requests_per_s: first.map_or(0.0, |stats| stats.requests as f64 / stats.seconds),
        })
    }
}

fn until_sent(sink: &str, plan: &Plan) -> Result<(), BenchError> {
    let began = Instant::now();
    loop {
        let stats = stats(sink)?;
        let has_all = |path: &String| stats.get(path).is_some_and(|stats| stats.events >= plan.events);
        if plan.awaited.iter().all(has_all) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(BenchError::Void(format!("not all was sent: {stats:?}")));
        }
        std::thread::sleep(LOOK);
    }
}

fn stats(sink: &str) -> Result<BTreeMap<String, Stats>, BenchError> {
    let mut text = String::new();
    let mut ask = || {
        let mut stream = TcpStream::connect(sink)?;
        stream.write_all(b"GET /stats HTTP/1.1\r\nhost: sink\r\nconnection: close\r\n\r\n")?;
        stream.read_to_string(&mut text)
    };
    ask().map_err(BenchError::io("ask the sink"))?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|error| BenchError::Failed(format!("the sink said {text:?}: {error}")))
}

/// The floor of the HTTP client.
pub(crate) fn post(events: u64, batch: usize) -> Result<Figures, BenchError> {
    let sink = Server::start(&["deliver-sink".to_owned()], None)?;
    let program = std::env::current_exe().map_err(BenchError::io("find this program"))?;
    let mut command = Command::new(program);
    command.args(["post-floor", "--url", &format!("http://{}/well/0", sink.address)]);
    command.args(["--events", &events.to_string(), "--batch", &batch.to_string()]);
    command.args(["--concurrency", &CONCURRENCY.to_string()]);
    let cost = measure("the floor of posting", command)?;
    sink.stop()?;
    Ok(of_cost(cost, events))
}

pub(crate) fn of_cost(cost: Cost, events: u64) -> Figures {
    Figures {
        cpu_s: cost.cpu_s,
        events,
        events_per_s: events as f64 / cost.wall_s,
        peak_mib: cost.peak_mib,
        busiest_second: 0,
        requests_per_s: 0.0,
    }
}
