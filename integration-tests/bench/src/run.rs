//! The whole benchmark: each workload against ingest and against its floors, several times over.
//!
//! Repetitions are interleaved (every workload once, then every workload again), so that a machine that
//! slows down slows all of them. Of each figure the median counts; the smallest and largest stand beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millrace_event_model::Workspace;
use millrace_event_model::topics::EVENTS;

use crate::calibrate::{self, Calibration};
use crate::child::{self, Core, Server};
use crate::error::BenchError;
use crate::floor::producer::ProducerReport;
use crate::gateway::lane;
use crate::kafka::Kafka;
use crate::load::LoadReport;
use crate::machine::Machine;
use crate::report::{self, Figures, Memory, Results};
use crate::workload::Workload;
use crate::{process, readback};

/// Latency is measured at this share of what the closed loop got through.
const HALF: f64 = 0.5;

/// Latency is measured with this long in the producer, in milliseconds.
const LATENCY_LINGERS_MS: [u64; 2] = [1, 5];

/// For latency, what is measured has a core for itself, and the generator and the broker share another:
/// else each wakes up where the other still runs.
const TESTED_CORE: usize = 0;
const OTHERS_CORE: usize = 1;

/// A broker that has just started spends more on compiling itself than on us: rounds of these are thrown away.
const BROKER_WARM_UPS: [Workload; 4] = [Workload::W3, Workload::W1, Workload::W3, Workload::W1];

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// All of them if none is named.
    workloads: Vec<Workload>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// The window of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Before each window.
    #[arg(long, default_value_t = 2.0)]
    warm_up_s: f64,
    /// How long events wait in the producer for others, where the cost is measured.
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
    /// Only w1, w3, w4 and w6 unless others are named, and only twice.
    #[arg(long, conflicts_with = "repetitions")]
    quick: bool,
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
    let (all, repetitions) =
        if args.quick { (&Workload::QUICK[..], 2) } else { (&Workload::ALL[..], args.repetitions) };
    let workloads = if args.workloads.is_empty() { all } else { &args.workloads };
    // Before the runs: the tree may move on while they go.
    let machine = Machine::look();
    let kafka = Kafka::start()?;
    let mut bench = Bench { args, kafka: &kafka, cores: machine.cores, topics: 0 };
    crate::print_progress("warming the broker up");
    for workload in BROKER_WARM_UPS {
        bench.producer_floor(workload, args.linger_ms, None)?;
    }
    let mut figures: BTreeMap<Workload, Figures> = BTreeMap::new();
    let mut calibrations: Vec<Calibration> = Vec::new();
    for repetition in 1..=repetitions {
        calibrations.push(calibrate::calibrate()?);
        for workload in workloads {
            crate::print_progress(&format!("{repetition}/{repetitions}: {}", workload.name()));
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
    cores: usize,
    /// How many there have been: each measurement has a fresh one.
    topics: usize,
}

impl Bench<'_> {
    fn measure(&mut self, workload: Workload, figures: &mut Figures) -> Result<(), BenchError> {
        let (load, memory) = self.ingest(workload, self.args.linger_ms, None)?;
        let half = load.requests as f64 / load.seconds * HALF;
        figures.throughput.push(load);
        figures.memory_mib.push(memory);
        if !self.args.no_floors {
            figures.producer_floor.push(self.producer_floor(workload, self.args.linger_ms, None)?);
            figures.http_floor.push(self.http_floor(workload, None)?);
        }
        if !self.args.no_latency && workload.shape().target.is_some() {
            self.kafka.bind(self.core(Some(half), OTHERS_CORE))?;
            self.latency(workload, half, figures)?;
            self.kafka.bind(None)?;
        }
        Ok(())
    }

    fn latency(&mut self, workload: Workload, rate: f64, figures: &mut Figures) -> Result<(), BenchError> {
        for linger_ms in LATENCY_LINGERS_MS {
            let latencies = figures.latencies.entry(linger_ms).or_default();
            latencies.ingest.push(self.ingest(workload, linger_ms, Some(rate))?.0);
            if !self.args.no_floors {
                latencies.producer.push(self.producer_floor(workload, linger_ms, Some(rate))?);
            }
        }
        if !self.args.no_floors {
            figures.http_half_load.push(self.http_floor(workload, Some(rate))?);
        }
        Ok(())
    }

    /// Ingest in a process of its own, on a topic of its own, and what the topic then holds.
    fn ingest(
        &mut self,
        workload: Workload,
        linger_ms: u64,
        rate: Option<f64>,
    ) -> Result<(LoadReport, Memory), BenchError> {
        let shape = workload.shape();
        let (workspace, topic) = self.fresh_topic()?;
        let mut arguments =
            strings(&["gateway", "--brokers", &self.kafka.brokers, "--workspace", &workspace]);
        arguments.extend(strings(&["--compression", shape.compression]));
        arguments.extend(strings(&["--linger-ms", &linger_ms.to_string()]));
        arguments.extend(shape.masked.then(|| "--masked".to_owned()));
        let gateway = Server::start(&arguments, self.core(rate, TESTED_CORE))?;
        let before = self.kafka.watermarks(&workspace, &topic)?;
        let idle = process::peak_memory_mib(gateway.pid)?;
        let load = self.load(workload, &gateway, "ingest", rate)?;
        let peak = process::peak_memory_mib(gateway.pid)?;
        gateway.stop()?;
        let after = self.kafka.watermarks(&workspace, &topic)?;
        let stored = readback::read(&self.kafka.brokers, &topic, &before, &after)?;
        readback::compare(stored, &load)?;
        self.kafka.delete(&topic)?;
        Ok((load, Memory { idle, peak }))
    }

    fn load(
        &self,
        workload: Workload,
        server: &Server,
        name: &str,
        rate: Option<f64>,
    ) -> Result<LoadReport, BenchError> {
        let mut arguments = strings(&["load", "--workload", workload.name(), "--target", &server.address]);
        arguments.extend(strings(&["--connections", &workload.shape().connections.to_string()]));
        arguments.extend(self.window());
        arguments.extend(strings(&["--watch", &format!("{name}={}", server.pid)]));
        if let Some(pid) = self.kafka.pid {
            arguments.extend(strings(&["--watch", &format!("broker={pid}")]));
        }
        if let Some(rate) = rate {
            arguments.extend(strings(&["--rate", &rate.to_string()]));
        }
        child::report(&arguments, self.core(rate, OTHERS_CORE))
    }

    /// The rate is in requests, as everywhere.
    fn producer_floor(
        &mut self,
        workload: Workload,
        linger_ms: u64,
        rate: Option<f64>,
    ) -> Result<ProducerReport, BenchError> {
        let (workspace, topic) = self.fresh_topic()?;
        let shape = workload.shape();
        let in_flight = shape.connections as f64 * shape.events_per_request();
        let mut arguments = strings(&["producer-floor", "--workload", workload.name()]);
        arguments.extend(strings(&["--brokers", &self.kafka.brokers, "--workspace", &workspace]));
        arguments.extend(strings(&["--in-flight", &(in_flight as u64).to_string()]));
        arguments.extend(strings(&["--linger-ms", &linger_ms.to_string()]));
        arguments.extend(self.window());
        if let Some(rate) = rate {
            arguments.extend(strings(&["--rate", &(rate * shape.events_per_request()).to_string()]));
        }
        let report = child::report(&arguments, self.core(rate, TESTED_CORE))?;
        self.kafka.delete(&topic)?;
        Ok(report)
    }

    fn http_floor(&self, workload: Workload, rate: Option<f64>) -> Result<LoadReport, BenchError> {
        let server = Server::start(&strings(&["http-floor"]), self.core(rate, TESTED_CORE))?;
        let report = self.load(workload, &server, "http", rate)?;
        server.stop()?;
        Ok(report)
    }

    /// A process keeps to its core only where latency is measured, and only where there are two.
    fn core(&self, rate: Option<f64>, core: usize) -> Core {
        rate.filter(|_| self.cores > 1).map(|_| core)
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
