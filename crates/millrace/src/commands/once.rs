//! `extract`, `load` and `sync` with `--once`: work off what there is now, print a report, exit. For cron.

use millrace_service::config::Mode;
use millrace_service::{Stop, Tasks, stop_on_signals};
use serde_json::json;

use crate::cli::{Output, Place};
use crate::exit::Failure;
use crate::installation::{Installation, machine_name, read_config};
use crate::stages::elt_sources;
use crate::{output, stages};

/// Under a name of its own in leases: beside a service of the same stage it waits its turn, and does not
/// take over as that service's next incarnation would.
async fn open(place: &Place) -> Result<Installation, Failure> {
    let config = read_config(place, Mode::Service)?;
    let mut place = place.clone();
    place.instance = Some(format!("{}.once", place.instance.unwrap_or_else(machine_name)));
    let installation = Installation::open(config, &place, Mode::Service).await?;
    installation.provision().await?;
    Ok(installation)
}

/// A stop that signals trigger.
fn stop() -> Stop {
    let stop = Stop::new();
    tokio::spawn(stop_on_signals(stop.clone()));
    stop
}

/// `millrace load --once [ID] [--anyway]`.
#[cfg(feature = "warehouse-loader")]
pub(crate) async fn load(
    place: &Place,
    only: Option<&str>,
    anyway: bool,
    output: Output,
) -> Result<(), Failure> {
    let installation = open(place).await?;
    let ids = match only {
        Some(id) => vec![
            id.parse().map_err(|error: millrace_event_model::InvalidId| Failure::Usage(error.to_string()))?,
        ],
        None => Vec::new(),
    };
    let runs = stages::loader(&installation, anyway)?.run_once(&ids, stop()).await;
    let runs = runs.map_err(|error| Failure::Usage(error.to_string()))?;
    let (mut reports, mut failed) = (Vec::new(), Vec::new());
    for run in runs {
        match run.outcome {
            Ok(report) => reports.push(report),
            Err(error) => failed.push(format!("{}: {}", run.connection, error.full())),
        }
    }
    let rows = reports.iter().map(|report| {
        let counts = [report.loaded, report.duplicates, report.rejected, report.filtered, report.superseded];
        let run = report.run.as_ref().map(ToString::to_string).unwrap_or_default();
        let counts = counts.iter().map(u64::to_string);
        std::iter::once(report.connection.to_string()).chain(counts).chain([run]).collect()
    });
    let header = ["connection", "loaded", "duplicate", "rejected", "filtered", "superseded", "run"];
    let mut text = output::table(&header, rows);
    for report in &reports {
        let Some(until) = report.excluded_until else { continue };
        let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        text.push_str(&format!(
            "\n{} is excluded from loading until {until}; --anyway loads all the same",
            report.connection
        ));
    }
    output::result(output, &json!(reports), text);
    installation.close().await;
    finish(&failed, reports.is_empty())
}

/// `millrace extract --once [ID]`.
#[cfg(feature = "extract")]
pub(crate) async fn extract(place: &Place, only: Option<&str>, output: Output) -> Result<(), Failure> {
    let installation = open(place).await?;
    let (service, stop) = (stages::extract(&installation)?, stop());
    let (mut reports, mut failed) = (Vec::new(), Vec::new());
    let mut found = false;
    // One by one: a source that fails keeps no other from being read.
    for source in elt_sources(&installation) {
        let id = source.id.as_str();
        if only.is_some_and(|only| only != id) {
            continue;
        }
        found = true;
        match service.run_once(Some(id), &stop).await {
            Ok(read) => reports.extend(read),
            Err(error) => failed.push(error.to_string()),
        }
    }
    if let (Some(id), false) = (only, found) {
        return Err(Failure::Usage(format!("there is no ELT source {id:?} in the config that is on")));
    }
    let rows = reports.iter().flat_map(|report| {
        report.streams.iter().map(|stream| {
            vec![
                report.source.to_string(),
                stream.stream.clone(),
                stream.rows.to_string(),
                stream.barriers.to_string(),
            ]
        })
    });
    output::result(output, &json!(reports), output::table(&["source", "stream", "rows", "barriers"], rows));
    installation.close().await;
    finish(&failed, reports.is_empty())
}

/// `millrace sync --once [ID]`.
#[cfg(feature = "reverse-etl")]
pub(crate) async fn sync(place: &Place, only: Option<&str>, output: Output) -> Result<(), Failure> {
    let installation = open(place).await?;
    let stop = stop();
    let mut tasks = Tasks::new(stop.clone());
    let service = stages::reverse_etl(&installation, &mut tasks, &stop).await?;
    let syncs = installation.config.syncs.iter().filter(|sync| only.is_none_or(|id| id == sync.id.as_str()));
    let (mut reports, mut failed) = (Vec::new(), Vec::new());
    let mut found = false;
    for sync in syncs {
        found = true;
        match service.run_once(sync.id.as_str(), &stop).await {
            Ok(report) => {
                let mut report = json!(report);
                report["sync"] = json!(sync.id);
                reports.push(report);
            }
            Err(error) => failed.push(format!("{}: {error}", sync.id)),
        }
    }
    stop.trigger();
    drop(tasks);
    if let (Some(id), false) = (only, found) {
        return Err(Failure::Usage(format!("there is no sync {id:?} in the config")));
    }
    let columns = ["sync", "run", "rows", "upserts", "deletes", "unchanged", "rejected"];
    let rows =
        reports.iter().map(|report| columns.iter().map(|name| output::cell(report.get(*name))).collect());
    output::result(output, &json!(reports), output::table(&columns, rows));
    installation.close().await;
    finish(&failed, reports.is_empty())
}

/// Exit 0 when all went well, 3 when some did, 1 when none did.
fn finish(failed: &[String], none_worked: bool) -> Result<(), Failure> {
    if failed.is_empty() {
        return Ok(());
    }
    let text = failed.join("\n       ");
    Err(if none_worked { Failure::Failed(text) } else { Failure::Partial(text) })
}
