//! `millrace check`: is the config right, and with `--connect`, does everything it names answer?

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_event_model::topics::ALL;
use millrace_service::config::{Config, Mode};
use millrace_state::{Store, existing_workspace_key};
use serde_json::json;

use crate::cli::{Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::judge::judge;
use crate::output;
use crate::stages::elt_sources;

/// A service waits for Kafka for longer; somebody who checks wants to know now.
const KAFKA_PATIENCE: Duration = Duration::from_secs(15);

/// What was asked, and the answer.
struct Answer {
    what: String,
    /// Where it is well: what that leaves open.
    result: Result<Option<&'static str>, Failure>,
}

/// `millrace check [--connect]`. Without `--connect` nothing is opened.
pub(crate) async fn run(place: &Place, connect: bool, dev: bool, output: Output) -> Result<(), Failure> {
    let mode = if dev { Mode::Dev } else { Mode::Service };
    let config = read_config(place, mode)?;
    judge(&config, place)?;
    let summary = summary(&config, mode);
    if !connect {
        output::result(output, &json!({"valid": true}), summary);
        return Ok(());
    }
    let answers = connect_all(config, place, mode).await?;
    let told = |answer: &Answer| answer.result.as_ref().err().map(Failure::text);
    let rows =
        answers.iter().map(|answer| vec![answer.what.clone(), told(answer).unwrap_or_else(|| well(answer))]);
    let json = answers.iter().map(|answer| {
        let open = answer.result.as_ref().ok().copied().flatten();
        json!({"what": answer.what, "problem": told(answer), "unchecked": open})
    });
    let text = format!("{summary}\n\n{}", output::table(&["", "answer"], rows));
    output::result(output, &json!({"valid": true, "answers": json.collect::<Vec<_>>()}), text);
    judgement(&answers)
}

fn well(answer: &Answer) -> String {
    match answer.result {
        Ok(Some(open)) => format!("ok: {open}"),
        _ => "ok".to_owned(),
    }
}

fn summary(config: &Config, mode: Mode) -> String {
    let mut summary = format!(
        "the config is valid: sources {}, warehouses {}, destinations {}, connections {}, syncs {}",
        config.sources.len(),
        config.warehouses.len(),
        config.destinations.len(),
        config.connections.len(),
        config.syncs.len()
    );
    if config.kafka.is_none() && mode == Mode::Service {
        summary.push_str("\nit names no Kafka: `millrace dev` can run it, stages as services cannot");
    }
    summary
}

/// Exit 5 when all that failed cannot be reached, 1 when something answered and is not right.
fn judgement(answers: &[Answer]) -> Result<(), Failure> {
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.result.as_ref().err()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let text = format!("{} of {} are not right", failed.len(), answers.len());
    if failed.iter().all(|failure| matches!(failure, Failure::Unreachable(_))) {
        return Err(Failure::Unreachable(text));
    }
    Err(Failure::Failed(text))
}

/// Topics are made where they are missing, and nothing else is: state is proved without being begun, and
/// whatever needs a folder to work in gets one that goes again.
async fn connect_all(mut config: Config, place: &Place, mode: Mode) -> Result<Vec<Answer>, Failure> {
    let state = Answer { what: "state".to_owned(), result: prove_state(&config).await.map(|()| None) };
    // The key of a new workspace would be made otherwise, and connectors do not care for it.
    config.state = "memory://".to_owned();
    let scratch = tempfile::tempdir()?;
    let (mut place, mut mode) = (place.clone(), mode);
    scratch.path().clone_into(&mut place.data_dir);
    // Without Kafka in the config the embedded broker is what would be used; a folder of its own leaves
    // that of a running `dev` alone, too.
    if config.kafka.is_none() {
        mode = Mode::Dev;
    }
    let installation = Installation::open(config, &place, mode).await?;
    let answers = ask_all(&installation, state).await;
    installation.close().await;
    Ok(answers)
}

/// Whether state can be written to by one at a time, and holds a key if it has been begun.
async fn prove_state(config: &Config) -> Result<(), Failure> {
    let store = Store::reach(&config.state, &BTreeMap::new())?.child(config.workspace.as_str());
    store.prove_creation().await?;
    existing_workspace_key(&store).await?;
    Ok(())
}

async fn ask_all(installation: &Installation, state: Answer) -> Vec<Answer> {
    let mut answers = vec![state];
    let mut note = |what: String, result| answers.push(Answer { what, result });
    note("kafka and its topics".to_owned(), kafka(installation).await.map(|()| None));
    for source in elt_sources(installation) {
        let asked = match installation.source(source) {
            Ok(connector) => connector.check().await.map(|()| None).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        note(format!("source {}", source.id), asked);
    }
    for warehouse in &installation.config.warehouses {
        let asked = match installation.warehouse(warehouse) {
            Ok(connector) => connector.check().await.map(|()| None).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        note(format!("warehouse {}", warehouse.id), asked);
    }
    for destination in installation.config.destinations.iter().filter(|destination| destination.enabled) {
        let asked = match installation.destination(destination) {
            Ok(connector) => connector.check().await.map(|()| connector.unchecked()).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        note(format!("destination {}", destination.id), asked);
    }
    answers
}

async fn kafka(installation: &Installation) -> Result<(), Failure> {
    match tokio::time::timeout(KAFKA_PATIENCE, installation.provision()).await {
        Ok(answer) => answer,
        Err(_) => {
            let brokers = installation.config.kafka.as_ref().map_or("", |kafka| &kafka.brokers);
            let waited = KAFKA_PATIENCE.as_secs();
            Err(Failure::Unreachable(format!("no answer from {brokers} within {waited} s")))
        }
    }
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
