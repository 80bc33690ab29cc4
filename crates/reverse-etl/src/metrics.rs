//! What is counted. Labels are names of the config, so there are few of them.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{Error, RunReport};

pub(crate) fn run_succeeded(sync: &str, report: &RunReport, took: Duration, at: DateTime<Utc>) {
    let name = sync.to_owned();
    metrics::counter!("millrace_sync_runs_total", "sync" => name.clone(), "status" => "succeeded")
        .increment(1);
    metrics::counter!("millrace_sync_rows_total", "sync" => name.clone()).increment(report.rows);
    for (op, count) in [("upsert", report.upserts), ("delete", report.deletes)] {
        metrics::counter!("millrace_sync_changes_total", "sync" => name.clone(), "op" => op).increment(count);
    }
    metrics::counter!("millrace_sync_rejected_rows_total", "sync" => name.clone()).increment(report.rejected);
    metrics::histogram!("millrace_sync_run_duration_seconds", "sync" => name.clone())
        .record(took.as_secs_f64());
    metrics::gauge!("millrace_sync_last_success_timestamp_seconds", "sync" => name)
        .set(at.timestamp_millis() as f64 / 1000.0);
}

pub(crate) fn run_failed(sync: &str, error: &Error) {
    let status = match error {
        Error::Held { .. } => "held",
        Error::Stopped => "stopped",
        _ => "failed",
    };
    metrics::counter!("millrace_sync_runs_total", "sync" => sync.to_owned(), "status" => status).increment(1);
}
