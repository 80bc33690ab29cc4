//! `millrace check`: is the config right, and with `--connect`, does everything it names answer?

use std::fmt;

use millrace_event_model::topics::ALL;
use millrace_service::Stop;
use millrace_service::Tasks;
use millrace_service::config::Mode;
use serde_json::json;

use crate::cli::{Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::output;
use crate::stages::{self, elt_sources};

/// What was asked, and the answer.
struct Answer {
    what: String,
    problem: Option<String>,
}

/// `millrace check [--connect]`.
pub(crate) async fn run(place: &Place, connect: bool, dev: bool, output: Output) -> Result<(), Failure> {
    let mode = if dev { Mode::Dev } else { Mode::Service };
    let config = read_config(place, mode)?;
    let summary = format!(
        "the config is valid: {} sources, {} warehouses, {} destinations, {} connections, {} syncs",
        config.sources.len(),
        config.warehouses.len(),
        config.destinations.len(),
        config.connections.len(),
        config.syncs.len()
    );
    if config.kafka.is_none() && !connect {
        output::result(output, &json!({"valid": true}), summary);
        return Ok(());
    }
    // Without Kafka in the config the embedded broker is what would be used; a folder of its own leaves
    // that of a running `dev` alone.
    let scratch = tempfile::tempdir()?;
    let mut place = place.clone();
    if config.kafka.is_none() {
        scratch.path().clone_into(&mut place.data_dir);
    }
    let installation = Installation::open(config, &place, Mode::Dev).await?;
    build_all(&installation).await?;
    if !connect {
        output::result(output, &json!({"valid": true}), summary);
        return Ok(());
    }
    let answers = ask_all(&installation).await;
    installation.close().await;
    let rows = answers
        .iter()
        .map(|answer| vec![answer.what.clone(), answer.problem.clone().unwrap_or_else(|| "ok".to_owned())]);
    let json = answers.iter().map(|answer| json!({"what": answer.what, "problem": answer.problem}));
    let text = format!("{summary}\n\n{}", output::table(&["", "answer"], rows));
    output::result(output, &json!({"valid": true, "answers": json.collect::<Vec<_>>()}), text);
    let failed = answers.iter().filter(|answer| answer.problem.is_some()).count();
    if failed > 0 {
        return Err(Failure::Unreachable(format!("{failed} of {} did not answer", answers.len())));
    }
    Ok(())
}

/// Makes every stage, which judges what the config file's own check cannot: settings of connectors,
/// expressions, policies.
async fn build_all(installation: &Installation) -> Result<(), Failure> {
    let stop = Stop::new();
    let mut tasks = Tasks::new(stop.clone());
    #[cfg(feature = "warehouse-loader")]
    drop(stages::loader(installation)?);
    #[cfg(feature = "deliver")]
    drop(stages::deliver(installation)?);
    #[cfg(feature = "extract")]
    drop(stages::extract(installation)?);
    #[cfg(feature = "reverse-etl")]
    drop(stages::reverse_etl(installation, &mut tasks, &stop).await?);
    for source in stages::http_sources(&installation.config) {
        installation.scanner(source)?;
    }
    drop(tasks);
    Ok(())
}

async fn ask_all(installation: &Installation) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut note =
        |what: String, result: Result<(), String>| answers.push(Answer { what, problem: result.err() });
    note("kafka and its topics".to_owned(), text(installation.provision().await));
    for source in elt_sources(installation) {
        let asked = match installation.source(source) {
            Ok(connector) => connector.check().await.map_err(|error| error.full()),
            Err(failure) => text(Err(failure)),
        };
        note(format!("source {}", source.id), asked);
    }
    for warehouse in &installation.config.warehouses {
        let asked = match installation.warehouse(warehouse) {
            Ok(connector) => connector.check().await.map_err(|error| error.full()),
            Err(failure) => text(Err(failure)),
        };
        note(format!("warehouse {}", warehouse.id), asked);
    }
    for destination in installation.config.destinations.iter().filter(|destination| destination.enabled) {
        let asked = match installation.destination(destination) {
            Ok(connector) => connector.check().await.map_err(|error| error.full()),
            Err(failure) => text(Err(failure)),
        };
        note(format!("destination {}", destination.id), asked);
    }
    answers
}

fn text<E: fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

/// `millrace topics`.
pub(crate) fn topics(place: &Place, output: Output) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let mut lanes: Vec<_> = config.sources.iter().map(|source| source.lane.clone()).collect();
    lanes.push(millrace_event_model::Lane::main());
    lanes.sort_unstable();
    lanes.dedup();
    let mut topics = Vec::new();
    for spec in ALL {
        let names = if spec.per_lane {
            lanes.iter().map(|lane| spec.full_name(&config.workspace, Some(lane))).collect()
        } else {
            vec![spec.full_name(&config.workspace, None)]
        };
        for name in names {
            let settings = spec.settings();
            let retention = settings.iter().find(|(key, _)| *key == "retention.ms");
            let days = retention.and_then(|(_, value)| value.parse::<u64>().ok()).map(|ms| ms / 86_400_000);
            let kept = days.map_or("last of each key".to_owned(), |days| format!("{days} days"));
            topics.push((name, spec.partitions, kept, spec.personal));
        }
    }
    let json = topics.iter().map(|(name, partitions, kept, personal)| {
        json!({"topic": name, "partitions": partitions, "kept": kept, "personal": personal})
    });
    let rows = topics.iter().map(|(name, partitions, kept, personal)| {
        vec![
            name.clone(),
            partitions.to_string(),
            kept.clone(),
            if *personal { "yes" } else { "no" }.to_owned(),
        ]
    });
    let text = output::table(&["topic", "partitions", "kept", "may hold personal data"], rows);
    output::result(output, &json!(json.collect::<Vec<_>>()), text);
    Ok(())
}
