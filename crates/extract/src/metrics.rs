//! The stage's metrics: names as in `docs/metrics.md`, labels only of bounded sets.

use metrics::{counter, gauge};
use millrace_event_model::SourceId;

pub(crate) fn rows(source: &SourceId, count: u64) {
    counter!("millrace_extract_rows_total", "source" => source.to_string()).increment(count);
}

pub(crate) fn barrier(source: &SourceId) {
    counter!("millrace_extract_barriers_total", "source" => source.to_string()).increment(1);
}

pub(crate) fn oversize(source: &SourceId, count: u64) {
    counter!("millrace_extract_oversize_rows_total", "source" => source.to_string()).increment(count);
}

pub(crate) fn attempt(source: &SourceId, status: &'static str, now_seconds: f64) {
    counter!("millrace_extract_attempts_total", "source" => source.to_string(), "status" => status)
        .increment(1);
    if status == "ok" {
        gauge!("millrace_extract_last_success_timestamp_seconds", "source" => source.to_string())
            .set(now_seconds);
    }
}
