//! `millrace replay` and `millrace backfill`: a past range of a connection, loaded beside what comes in.

use chrono::Utc;
use millrace_service::config::Mode;
use millrace_service::{Stop, stop_on_signals};
use millrace_warehouse_loader::{Error, JobKind, JobOutcome, JobProgress, JobRequest, NextStep, Service};
use serde_json::json;
use uuid::Uuid;

use crate::cli::{JobArgs, Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::{output, stages};

/// Does a job to its end, or until a signal.
pub(crate) async fn run(kind: JobKind, args: &JobArgs, output: Output) -> Result<(), Failure> {
    let request = request(kind, args)?;
    let service = service(&args.place).await?;
    let stop = Stop::new();
    tokio::spawn(stop_on_signals(stop.clone()));
    let again = format!("millrace {} --connection {} --resume {}", word(kind), args.connection, request.name);
    output::aside(format!(
        "{} {} of {}; if it is stopped: {again}",
        word(kind),
        request.name,
        request.connection
    ));
    let outcome =
        service.run_job(&request, teller(), &stop).await.map_err(|error| failure(&error, &again))?;
    output::result(output, &json!(outcome), text(&outcome));
    if outcome.done {
        return Ok(());
    }
    Err(Failure::Partial(format!("stopped before the end; to go on: {again}")))
}

/// A loader that does jobs, beside those that load what comes in.
pub(super) async fn service(place: &Place) -> Result<Service, Failure> {
    let config = read_config(place, Mode::Dev)?;
    let installation = Installation::open_attached(config, place).await?;
    let mut options = stages::loader_options(&installation, true)?;
    // No two processes are one holder, whatever machine they are on: what a job does must not be done twice at once.
    options.holder = installation.holder(&format!("job.{:08x}", Uuid::new_v4().as_fields().0));
    let Installation { bus, store, clock, health, .. } = &installation;
    Ok(Service::new(options, bus.clone(), store.clone(), clock.clone(), health.clone()))
}

fn request(kind: JobKind, args: &JobArgs) -> Result<JobRequest, Failure> {
    let connection = args.connection.clone();
    if let Some(name) = &args.past.resume {
        return Ok(JobRequest { name: name.clone(), kind, connection, time: None });
    }
    let now = Utc::now();
    let time = args.past.time(now)?;
    let made_up = || format!("{}-{}", word(kind), now.format("%Y%m%d-%H%M%S"));
    let name = args.past.id.clone().unwrap_or_else(made_up);
    connection.job(&name).map_err(|error| Failure::Usage(format!("--id: {error}")))?;
    Ok(JobRequest { name, kind, connection, time: Some(time) })
}

fn word(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Replay => "replay",
        JobKind::Backfill => "backfill",
    }
}

pub(super) fn failure(error: &Error, again: &str) -> Failure {
    match error {
        Error::Job(text) => Failure::Usage(text.clone()),
        Error::JobState(text) => Failure::Failed(text.clone()),
        Error::UnknownConnection(_) => Failure::Usage(error.to_string()),
        Error::State(state) if state.is_refused() => Failure::Failed(error.full()),
        _ => {
            let text = format!("{}; what is loaded stays, and it goes on with: {again}", error.full());
            match error.next_step() {
                NextStep::Retry { .. } => Failure::Unreachable(text),
                NextStep::StandBack => Failure::Failed(text),
            }
        }
    }
}

fn text(outcome: &JobOutcome) -> String {
    let report = &outcome.report;
    let mut text = format!(
        "{} {} of {}: {} loaded, {} duplicate, {} filtered, {} rejected, in {} loads",
        word(outcome.kind),
        outcome.job,
        report.connection.connection(),
        report.loaded,
        report.duplicates,
        report.filtered,
        report.rejected,
        report.batches
    );
    if let Some(run) = &report.run {
        text.push_str(&format!("\nrun {run}"));
    }
    if outcome.cut {
        text.push_str(
            "\nretention had already taken the beginning of this time from Kafka; the rest is loaded",
        );
    }
    text
}

/// Tells how far it is, where that is news.
pub(super) fn teller() -> impl FnMut(JobProgress) + Send {
    let mut told = None;
    move |now| {
        if told != Some(now) {
            output::aside(format!("{} of {} offsets", now.done, now.of));
        }
        told = Some(now);
    }
}
