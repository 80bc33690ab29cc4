//! What operators ask of a running installation: `plan`, `pause`, `resume`.

use chrono::Utc;
use millrace_bus::{Bus, PublisherOptions};
use millrace_event_model::topics::{AUDIT, CONTROL};
use millrace_event_model::{AuditEntry, Control, DestinationId};
use millrace_service::config::{Config, Mode};
use serde_json::json;

use crate::cli::{Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::output;

/// `millrace pause DESTINATION`.
pub(crate) async fn pause(place: &Place, id: &str, reason: &str, output: Output) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let destination = destination(&config, id)?;
    let word = Control::Pause { destination, reason: reason.to_owned(), at: Utc::now() };
    say(&Installation::attach(&config, place)?, &word, "destination.paused", id).await?;
    let json = json!({"destination": id, "paused": true});
    output::result(
        output,
        &json,
        format!("{id} is paused; its items wait in Kafka. `millrace resume {id}` goes on"),
    );
    Ok(())
}

/// `millrace resume DESTINATION`.
pub(crate) async fn resume(place: &Place, id: &str, output: Output) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let destination = destination(&config, id)?;
    let word = Control::Resume { destination, at: Utc::now() };
    say(&Installation::attach(&config, place)?, &word, "destination.resumed", id).await?;
    output::result(output, &json!({"destination": id, "paused": false}), format!("{id} goes on"));
    Ok(())
}

/// A destination of the config.
pub(super) fn destination(config: &Config, id: &str) -> Result<DestinationId, Failure> {
    let known: Vec<&str> = config.destinations.iter().map(|destination| destination.id.as_str()).collect();
    let found = config.destinations.iter().find(|destination| destination.id.as_str() == id);
    found.map(|destination| destination.id.clone()).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no destination {id:?} in the config; there are: {}",
            known.join(", ")
        ))
    })
}

/// What an operator does, for the auditors.
pub(super) fn audit(action: &str, subject: &str) -> AuditEntry {
    AuditEntry {
        at: Utc::now(),
        actor: format!("operator {}", std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned())),
        action: action.to_owned(),
        subject: subject.to_owned(),
    }
}

/// Publishes the word, and that it was said.
pub(super) async fn say(bus: &Bus, word: &Control, action: &str, subject: &str) -> Result<(), Failure> {
    let publisher = bus.publisher(PublisherOptions::default())?;
    let entry = audit(action, subject);
    // The record first: whoever acts is named even if the word does not get through.
    let noted = publisher.publish(&AUDIT.of(bus.workspace()), [&entry]).await?;
    let said = publisher.publish(&CONTROL.of(bus.workspace()), [word]).await?;
    tracing::debug!(noted = noted.count(), said = said.count(), "an operator spoke");
    Ok(())
}

/// `millrace plan [SYNC]`.
#[cfg(feature = "reverse-etl")]
pub(crate) async fn plan(place: &Place, only: Option<&str>, output: Output) -> Result<(), Failure> {
    use millrace_service::{Stop, Tasks};

    let config = read_config(place, Mode::Dev)?;
    let installation = Installation::open_attached(config, place).await?;
    let stop = Stop::new();
    let mut tasks = Tasks::new(stop.clone());
    let service = crate::stages::reverse_etl(&installation, &mut tasks, &stop).await?;
    let mut reports = Vec::new();
    for sync in installation.config.syncs.iter().filter(|sync| only.is_none_or(|id| id == sync.id.as_str())) {
        let report = service.plan(sync.id.as_str(), &stop).await;
        let report = report.map_err(|error| Failure::Failed(format!("sync {}: {error}", sync.id)))?;
        reports.push((sync.id.to_string(), report));
    }
    stop.trigger();
    drop(tasks);
    if let (Some(id), true) = (only, reports.is_empty()) {
        return Err(Failure::Usage(format!("there is no sync {id:?} in the config")));
    }
    let rows = reports.iter().map(|(sync, report)| {
        let counts = [report.rows, report.upserts, report.deletes, report.unchanged, report.rejected];
        std::iter::once(sync.clone()).chain(counts.iter().map(u64::to_string)).collect()
    });
    let header = ["sync", "rows", "to upsert", "to delete", "unchanged", "rejected"];
    let json = reports.iter().map(|(sync, report)| json!({"sync": sync, "plan": report})).collect::<Vec<_>>();
    output::result(output, &json!(json), output::table(&header, rows));
    Ok(())
}
