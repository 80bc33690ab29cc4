//! The whole benchmark: each workload against ingest and against its floors, several times over.
//!
//! Repetitions are interleaved (every workload once, then every workload again), so that a machine that
//! slows down slows all of them. Of each figure the median counts; the smallest and largest stand beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millrace_event_model::Workspace;
use millrace_event_model::topics::EVENTS;

use crate::calibrate::{self, Calibration};
use crate::child::{self, Server};
use crate::error::BenchError;
use crate::floor::producer::ProducerReport;
use crate::gateway::lane;
use crate::kafka::Kafka;
use crate::load::LoadReport;
use crate::machine::Machine;
use crate::report::{self, Figures, Results};
use crate::workload::Workload;
use crate::{process, readback};

/// Latency is measured at this share of what the closed loop got through.
const HALF: f64 = 0.5;

/// A broker that has just started spends more on compiling itself than on us; so many rounds are thrown away.
const BROKER_WARM_UPS: usize = 2;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// All of them if none is named.
    workloads: Vec<Workload>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// The window of each measurement.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Before each window.
    #[arg(long, default_value_t = 3.0)]
    warm_up_s: f64,
    /// Kept open by the generator.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long events wait in the producer for others.
    #[arg(long, default_value_t = 1)]
    linger_ms: u64,
    /// Leaves the floors out.
    #[arg(long)]
    no_floors: bool,
    /// Leaves the latencies at half load out.
    #[arg(long)]
    no_latency: bool,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-ingest.json")]
    json: PathBuf,
}

/// Measures and prints a table in Markdown.
pub(crate) fn run(args: &RunArgs) -> Result<(), BenchError> {
    let workloads = if args.workloads.is_empty() { &Workload::ALL[..] } else { &args.workloads };
    // Before the runs: the tree may move on while they go.
    let machine = Machine::look();
    let kafka = Kafka::start()?;
    let mut bench = Bench { args, kafka: &kafka, topics: 0 };
    crate::print_progress("warming the broker up");
    for _ in 0..BROKER_WARM_UPS {
        bench.producer_floor(Workload::W3)?;
    }
    let mut figures: BTreeMap<Workload, Figures> = BTreeMap::new();
    let mut calibrations: Vec<Calibration> = Vec::new();
    for repetition in 1..=args.repetitions {
        calibrations.push(calibrate::calibrate()?);
        for workload in workloads {
            crate::print_progress(&format!("{repetition}/{}: {}", args.repetitions, workload.name()));
            bench.measure(*workload, figures.entry(*workload).or_default())?;
        }
    }
    calibrations.push(calibrate::calibrate()?);
    let results = Results { machine, calibrations, figures };
    report::write(&results, &args.json)?;
    crate::print_line(&report::markdown(&results));
    Ok(())
}

struct Bench<'b> {
    args: &'b RunArgs,
    kafka: &'b Kafka,
    /// How many there have been: each measurement has a fresh one.
    topics: usize,
}

impl Bench<'_> {
    fn measure(&mut self, workload: Workload, figures: &mut Figures) -> Result<(), BenchError> {
        let (load, memory) = self.ingest(workload, None)?;
        let rate = load.requests as f64 / load.seconds * HALF;
        figures.throughput.push(load);
        figures.memory_mib.push(memory);
        if !self.args.no_latency {
            let (load, _) = self.ingest(workload, Some(rate))?;
            figures.half_load.push(load);
        }
        if !self.args.no_floors {
            figures.producer_floor.push(self.producer_floor(workload)?);
            figures.http_floor.push(self.http_floor(workload)?);
        }
        Ok(())
    }

    /// Ingest in a process of its own, on a topic of its own, and what the topic then holds.
    fn ingest(&mut self, workload: Workload, rate: Option<f64>) -> Result<(LoadReport, f64), BenchError> {
        let shape = workload.shape();
        let (workspace, topic) = self.fresh_topic()?;
        let mut arguments =
            strings(&["gateway", "--brokers", &self.kafka.brokers, "--workspace", &workspace]);
        arguments.extend(strings(&["--compression", shape.compression]));
        arguments.extend(strings(&["--linger-ms", &self.args.linger_ms.to_string()]));
        arguments.extend(shape.masked.then(|| "--masked".to_owned()));
        let gateway = Server::start(&arguments)?;
        let before = self.kafka.watermarks(&workspace, &topic)?;
        let load = self.load(workload, &gateway, "ingest", rate)?;
        let memory = process::peak_memory_mib(gateway.pid)?;
        gateway.stop()?;
        let after = self.kafka.watermarks(&workspace, &topic)?;
        let stored = readback::read(&self.kafka.brokers, &topic, &before, &after)?;
        readback::compare(stored, &load)?;
        self.kafka.delete(&topic)?;
        Ok((load, memory))
    }

    fn load(
        &self,
        workload: Workload,
        server: &Server,
        name: &str,
        rate: Option<f64>,
    ) -> Result<LoadReport, BenchError> {
        let mut arguments = strings(&["load", "--workload", workload.name(), "--target", &server.address]);
        arguments.extend(strings(&["--connections", &self.args.connections.to_string()]));
        arguments.extend(self.window());
        arguments.extend(strings(&["--watch", &format!("{name}={}", server.pid)]));
        if let Some(pid) = self.kafka.pid {
            arguments.extend(strings(&["--watch", &format!("broker={pid}")]));
        }
        if let Some(rate) = rate {
            arguments.extend(strings(&["--rate", &rate.to_string()]));
        }
        child::report(&arguments)
    }

    fn producer_floor(&mut self, workload: Workload) -> Result<ProducerReport, BenchError> {
        let (workspace, topic) = self.fresh_topic()?;
        let in_flight = self.args.connections as f64 * workload.shape().events_per_request();
        let mut arguments = strings(&["producer-floor", "--workload", workload.name()]);
        arguments.extend(strings(&["--brokers", &self.kafka.brokers, "--workspace", &workspace]));
        arguments.extend(strings(&["--in-flight", &(in_flight as u64).to_string()]));
        arguments.extend(strings(&["--linger-ms", &self.args.linger_ms.to_string()]));
        arguments.extend(self.window());
        let report = child::report(&arguments)?;
        self.kafka.delete(&topic)?;
        Ok(report)
    }

    fn http_floor(&self, workload: Workload) -> Result<LoadReport, BenchError> {
        let server = Server::start(&strings(&["http-floor"]))?;
        let report = self.load(workload, &server, "http", None)?;
        server.stop()?;
        Ok(report)
    }

    fn window(&self) -> Vec<String> {
        let (warm_up, seconds) = (self.args.warm_up_s.to_string(), self.args.seconds.to_string());
        strings(&["--warm-up-s", &warm_up, "--seconds", &seconds])
    }

    /// A workspace that nobody has used, and its topic of events.
    fn fresh_topic(&mut self) -> Result<(String, String), BenchError> {
        self.topics += 1;
        let name = format!("bench-{}-{}", std::process::id(), self.topics);
        let workspace: Workspace = name.parse().map_err(|error| BenchError::Failed(format!("{error}")))?;
        Ok((name, EVENTS.lane(&workspace, &lane()?).as_str().to_owned()))
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
