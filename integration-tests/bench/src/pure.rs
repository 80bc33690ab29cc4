//! Ingest's own code, without HTTP and Kafka, over and over: what `instructions.rs` counts.

use std::hint::black_box;

use chrono::{DateTime, Utc};
use libdeflater::Decompressor;
use millrace_event_model::wire::WriteRecord as _;
use millrace_event_model::{EventType, KeyHasher};
use millrace_ingest::{BlockedEvents, Envelope, Limits, Opened, Rules, Shape};
use millrace_privacy::Suppressions;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::BenchError;
use crate::gateway::source;
use crate::workload::{self, Body, WORKSPACE_KEY, Workload, gzip, scanner};

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct PureArgs {
    /// Whose bodies.
    #[arg(long)]
    workload: Workload,
    /// Which code.
    #[arg(long)]
    part: Part,
    /// How often over all of them.
    #[arg(long)]
    rounds: usize,
}

/// A part of what ingest does to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// Split it and decide about each event; with masking if the workload masks.
    Open,
    /// That, and each event as a record, which goes nowhere.
    Write,
    /// Mask each event.
    Scan,
    /// Inflate it.
    Inflate,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Write => "write",
            Self::Scan => "scan",
            Self::Inflate => "inflate",
        }
    }
}

/// Runs it, and prints how many events a round has.
pub(crate) fn run(args: &PureArgs) -> Result<(), BenchError> {
    let bodies = workload::bodies(args.workload);
    let events: usize = bodies.iter().map(|body| body.events.len()).sum();
    match args.part {
        Part::Open | Part::Write => open(args, &bodies)?,
        Part::Scan => scan(args.rounds, &bodies)?,
        Part::Inflate => inflate(args.rounds, &bodies)?,
    }
    crate::print_line(&events.to_string());
    Ok(())
}

fn open(args: &PureArgs, bodies: &[Body]) -> Result<(), BenchError> {
    let scanner = args.workload.shape().masked.then(scanner);
    let policy_version = scanner.as_ref().map(|scanner| scanner.policy().version("strict"));
    let rules = Rules { id: source(0)?, scanner, policy_version, blocked: BlockedEvents::default() };
    let (limits, keys) = (Limits::default(), KeyHasher::new(&WORKSPACE_KEY));
    let (suppressions, received_at) = (Suppressions::default(), Utc::now());
    let mut shapes = Vec::new();
    for body in bodies {
        shapes.push(shape(body)?);
    }
    for _ in 0..args.rounds {
        for (body, shape) in bodies.iter().zip(&shapes) {
            let envelope = envelope(*shape, &rules, &limits, &keys, &suppressions, received_at);
            let opened = envelope.open(black_box(body.json.as_bytes()), Uuid::now_v7);
            let opened = opened.map_err(|refusal| BenchError::Failed(format!("refused: {refusal:?}")))?;
            match args.part {
                Part::Write => write(&opened),
                _ => drop(black_box(opened)),
            }
        }
    }
    Ok(())
}

fn envelope<'r>(
    shape: Shape,
    rules: &'r Rules,
    limits: &'r Limits,
    keys: &'r KeyHasher,
    suppressions: &'r Suppressions,
    received_at: DateTime<Utc>,
) -> Envelope<'r> {
    let (address, traceparent, locator) = ("127.0.0.1", None, None);
    Envelope { shape, rules, limits, keys, suppressions, locator, received_at, address, traceparent }
}

fn shape(body: &Body) -> Result<Shape, BenchError> {
    let Some(event_type) = body.single else { return Ok(Shape::Batch) };
    let event_type: EventType =
        event_type.parse().map_err(|_| BenchError::Failed(format!("{event_type} is no type")))?;
    Ok(Shape::Single(event_type))
}

fn write(opened: &Opened<'_>) {
    for event in opened.events() {
        event.write(|record| {
            black_box(record);
        });
    }
}

fn scan(rounds: usize, bodies: &[Body]) -> Result<(), BenchError> {
    let scanner = scanner();
    for _ in 0..rounds {
        for event in bodies.iter().flat_map(|body| &body.events) {
            black_box(scanner.scan(black_box(event.json.as_bytes())).map_err(BenchError::corpus)?);
        }
    }
    Ok(())
}

/// As ingest does it where gzip's trailer says the size: at once, into room of that size.
fn inflate(rounds: usize, bodies: &[Body]) -> Result<(), BenchError> {
    let zipped: Vec<Vec<u8>> = bodies.iter().map(|body| gzip(body.json.as_bytes())).collect();
    let mut inflater = Decompressor::new();
    for _ in 0..rounds {
        for (zipped, body) in zipped.iter().zip(bodies) {
            let mut plain = vec![0; body.json.len()];
            inflater
                .gzip_decompress(black_box(zipped), &mut plain)
                .map_err(|error| BenchError::Failed(format!("cannot inflate: {error}")))?;
            black_box(plain);
        }
    }
    Ok(())
}
