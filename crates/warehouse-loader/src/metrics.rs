//! What the loader counts. Labels are connection ids and fixed words, never names of events or users.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use metrics::{counter, gauge};
use millrace_connector::Load;
use millrace_event_model::{ConnectionId, Disposition};

use crate::Error;
use crate::books::Books;

const ROLE: &str = "warehouse-loader";

/// A load is durable.
pub(crate) fn loaded(load: &LoadSize, books: &Books, now: DateTime<Utc>) {
    let connection = load.connection.to_string();
    counter!("millrace_loader_batches_total", "connection" => connection.clone()).increment(1);
    counter!("millrace_loader_rows_total", "connection" => connection.clone())
        .increment(load.rows.values().sum());
    counter!("millrace_component_sent_events_total", "role" => ROLE, "component" => connection.clone())
        .increment(books.total(Disposition::Loaded));
    let left_out = books.left_out();
    let filtered = books.total(Disposition::Filtered) - left_out.no_consent - left_out.integrations;
    let total = |disposition: Disposition| (disposition.as_str(), books.total(disposition));
    let discarded = [
        (("no_consent", left_out.no_consent), "true"),
        (("integrations", left_out.integrations), "true"),
        (("filtered", filtered), "true"),
        (total(Disposition::Duplicate), "true"),
        (total(Disposition::Superseded), "true"),
        (total(Disposition::Rejected), "false"),
        (total(Disposition::Expired), "false"),
    ];
    for ((reason, items), intentional) in discarded {
        if items > 0 {
            counter!(
                "millrace_component_discarded_events_total",
                "role" => ROLE, "component" => connection.clone(),
                "reason" => reason, "intentional" => intentional
            )
            .increment(items);
        }
    }
    gauge!("millrace_sync_last_success_timestamp_seconds", "connection" => connection)
        .set(now.timestamp() as f64);
}

/// Values of records that are null in the load that was prepared, since they did not fit their columns. A load
/// that is prepared again counts them again.
pub(crate) fn nulled(connection: &ConnectionId, values: u64) {
    if values > 0 {
        counter!("millrace_loader_values_nulled_total", "connection" => connection.to_string())
            .increment(values);
    }
}

/// What is kept of a load for counting, once it is given away.
#[derive(Debug)]
pub(crate) struct LoadSize {
    pub(crate) connection: ConnectionId,
    /// By table.
    pub(crate) rows: BTreeMap<String, u64>,
}

impl LoadSize {
    pub(crate) fn of(load: &Load) -> Self {
        let mut rows = BTreeMap::new();
        for table in &load.tables {
            *rows.entry(table.name.table.clone()).or_default() +=
                table.rows.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
        }
        Self { connection: load.connection.clone(), rows }
    }
}

/// Values and rows went to `rudder_discards`.
pub(crate) fn discarded(connection: &ConnectionId, discards: u64) {
    if discards > 0 {
        counter!("millrace_loader_discards_total", "connection" => connection.to_string())
            .increment(discards);
    }
}

/// Items came in.
pub(crate) fn received(connection: &ConnectionId, items: usize) {
    counter!(
        "millrace_component_received_events_total",
        "role" => ROLE, "component" => connection.to_string()
    )
    .increment(items as u64);
}

/// Something went wrong.
pub(crate) fn failed(connection: &ConnectionId, error: &Error) {
    counter!(
        "millrace_component_errors_total",
        "role" => ROLE, "component" => connection.to_string(), "error_class" => error.class()
    )
    .increment(1);
}

/// How far the connection is behind its topic.
pub(crate) fn lag(connection: &ConnectionId, topic: &str, messages: i64) {
    gauge!(
        "millrace_consumer_lag_messages",
        "group" => connection.to_string(), "topic" => topic.to_owned()
    )
    .set(messages as f64);
}

/// How long the oldest item that is not loaded has been waiting.
pub(crate) fn oldest(connection: &ConnectionId, seconds: f64) {
    gauge!("millrace_oldest_unprocessed_age_seconds", "connection" => connection.to_string()).set(seconds);
}
