//! The benchmarks of ingest, `just bench-ingest`, of loading warehouses, `just bench-warehouse`, and of
//! delivering, `just bench-deliver`.
//!
//! The first measures what the process that takes events costs, per million events that Kafka has acked, and
//! proves for each run that the topic holds exactly what was acked. Beside each figure stands its floor:
//! the client library without HTTP, and HTTP without the rest. `docs/performance.md` has the method and the results.
//!
//! Reading order: `run.rs` (what is measured, in which order), `workload.rs` (W1 to W7), `corpus/` (the
//! events), `load.rs` (the generator), `gateway.rs` (what is measured), `floor/`, `readback.rs` (the proof),
//! `report.rs`; apart from these `instructions.rs`, which counts instead of timing, and `warehouse/` and
//! `deliver/`, the other benchmarks. Each part is a subcommand and a process of its own, and can be used by hand.

mod calibrate;
mod child;
mod client;
mod corpus;
mod deliver;
mod error;
mod floor;
mod gateway;
mod instructions;
mod kafka;
mod latency;
mod load;
mod machine;
mod process;
mod pure;
mod readback;
mod report;
mod run;
mod warehouse;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::BenchError;

/// As in the binary `millrace`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Millrace's ingest.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure workloads and their floors, and print the table.
    Run(run::RunArgs),
    /// Count the instructions of ingest's own code per event, and print the table.
    Instructions(instructions::InstructionsArgs),
    /// Print the corpus's SHA-256, or with --print its events, a line each.
    Corpus {
        /// S or L.
        #[arg(value_enum)]
        size: corpus::Size,
        /// The events themselves.
        #[arg(long)]
        print: bool,
    },
    /// Measure loads of a topic into PostgreSQL and into the lake, beside their floors and peers.
    Warehouse(warehouse::WarehouseArgs),
    /// Measure what sending events to destinations costs, beside its floors.
    Deliver(deliver::DeliverArgs),
    /// Run the deliver stage by itself until standard input ends.
    Deliverer(deliver::deliverer::DelivererArgs),
    /// Run a server that is sent to, until standard input ends.
    DeliverSink,
    /// Post events from memory.
    PostFloor(deliver::floor::PostArgs),
    /// Read a topic with librdkafka alone, and print what that cost.
    ConsumerFloor(floor::consumer::ConsumerArgs),
    /// Run the ingest stage by itself until standard input ends.
    Gateway(gateway::GatewayArgs),
    /// Send a workload and print what was acked.
    Load(load::LoadArgs),
    /// Run a server that only reads the bodies, until standard input ends.
    HttpFloor(floor::http::HttpArgs),
    /// Run librdkafka's producer by itself.
    ProducerFloor(floor::producer::ProducerArgs),
    /// Run ingest's own code on a workload's bodies, without HTTP and Kafka.
    #[command(hide = true)]
    Pure(pure::PureArgs),
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_progress(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<(), BenchError> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Corpus { size, print } => {
            print_corpus(size, print);
            Ok(())
        }
        Command::Warehouse(args) => warehouse::run(&args),
        Command::Deliver(args) => deliver::run(&args),
        Command::Deliverer(args) => deliver::deliverer::run(&args),
        Command::DeliverSink => deliver::sink::run(),
        Command::PostFloor(args) => deliver::floor::run(&args),
        Command::ConsumerFloor(args) => floor::consumer::run(&args),
        Command::Gateway(args) => gateway::run(args),
        Command::Load(args) => load::run(&args),
        Command::HttpFloor(args) => floor::http::run(&args),
        Command::ProducerFloor(args) => floor::producer::run(&args),
        Command::Pure(args) => pure::run(&args),
    }
}

fn print_corpus(size: corpus::Size, print: bool) {
    let samples = corpus::events(size);
    if print {
        for sample in &samples {
            print_line(&sample.json);
        }
        return;
    }
    let bytes: usize = samples.iter().map(|sample| sample.json.len()).sum();
    let mean = bytes / samples.len().max(1);
    print_line(&format!(
        "{} events, {mean} bytes on average, SHA-256 {}",
        samples.len(),
        corpus::digest(&samples)
    ));
}

/// Results, and what one part says to another.
#[expect(clippy::print_stdout, reason = "this is a program for the terminal")]
fn print_line(text: &str) {
    println!("{text}");
}

/// Progress and errors.
#[expect(clippy::print_stderr, reason = "this is a program for the terminal")]
fn print_progress(text: &str) {
    eprintln!("{text}");
}
