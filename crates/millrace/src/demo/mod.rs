//! `millrace demo`: the whole river once. Starts every stage as `dev` does, sends the sample over HTTP,
//! and reports what it finds at each stop: in the topics, in the lake, at the receiver. No count is taken
//! from the sender's own variables.

mod config;
mod receiver;
mod report;
mod sample;
pub(crate) mod source;
mod visit;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use millrace_service::Stop;
use millrace_service::config::Mode;

use crate::cli::Place;
use crate::commands::serve::{self, Signals};
use crate::exit::Failure;
use crate::installation::{Installation, parse_config};
use crate::output::line;
use crate::stages::Pick;
use receiver::Receiver;
use report::Report;
use visit::Visit;

/// How long the demo waits for any one thing: a slow machine is no failure, a stuck stage is.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long the stages may take to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs the demo in `data_dir`, or in a temporary folder that is removed afterwards.
///
/// # Errors
/// A stage failed, something did not arrive in time, or the counts do not add up.
pub(crate) async fn run(data_dir: Option<PathBuf>) -> Result<(), Failure> {
    let began = Instant::now();
    let temporary = tempfile::Builder::new().prefix("millrace-demo-").tempdir()?;
    let keep = data_dir.is_some();
    let data_dir = data_dir.unwrap_or_else(|| temporary.path().to_owned());
    line("Millrace demo: ingest, extract, warehouse-loader, deliver and reverse-etl in this process,");
    line("with the embedded broker and an embedded lake. Everything between two stages crosses Kafka.\n");

    let listening = Stop::new();
    let receiver = Receiver::start(config::SECRET.to_vec(), listening.child()).await?;
    let text = config::text(&receiver.url())?;
    let config = parse_config("the demo's config", &text, &data_dir)
        .map_err(|errors| Failure::Config(Box::new(miette::Report::new(errors))))?;
    let place = Place { config: None, data_dir: data_dir.clone(), instance: None };
    let installation = Installation::open(config, &place, Mode::Dev).await?;
    installation.provision().await?;
    let running = serve::start(&installation, &Pick::ALL, Signals::End).await?;

    let visit = Visit::new(&installation, &running.endpoints, receiver)?;
    let told = tell(&visit).await;

    running.stop.trigger();
    let errors = running.tasks.join(DRAIN).await;
    listening.trigger();
    installation.close().await;
    told?;
    if let Some(error) = errors.first() {
        return Err(Failure::Failed(error.to_string()));
    }
    line(format!("\nDone in {:.1} s.", began.elapsed().as_secs_f64()));
    if keep {
        std::fs::write(data_dir.join("millrace.yaml"), config::to_keep(&text, &data_dir))?;
        let folder = data_dir.display();
        line("Look around:");
        line(format!(
            "  millrace query -c {folder}/millrace.yaml 'select * from web.order_completed limit 5'"
        ));
        line(format!("  millrace dev -c {folder}/millrace.yaml -d {folder}"));
    } else {
        line("Look around:  millrace demo --data-dir ./demo    keeps the data for `millrace query`");
        line("Start:        millrace dev                       an SDK endpoint and a lake in ./data");
    }
    Ok(())
}

async fn tell(visit: &Visit<'_>) -> Result<(), Failure> {
    let mut report = Report::default();
    let sample = sample::sample();
    report.ingest(&visit.send(&sample).await?, &visit.events_topic(&sample.canaries).await?)?;
    report.extract(&visit.records_topic().await?)?;
    report.loader(&visit.loaded(&sample.canaries).await?)?;
    report.deliver(&visit.delivered().await?)?;
    report.reverse_etl(&visit.synced().await?)?;
    report.close()
}
