//! Logs to stderr, metrics in Prometheus' text format.
//!
//! Stages log with `tracing` and count with the `metrics` macros; nothing but this module knows where
//! either goes. stdout is left alone: it is for results.

use std::io::{self, IsTerminal};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// A line for people; in colour where stderr is a terminal.
    #[default]
    Text,
    /// A JSON object per line, for collectors.
    Json,
}

/// Renders what the process has counted.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

/// Telemetry could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not in the syntax of `tracing`.
    #[error("invalid log filter {0:?}: use a level such as info, or targets such as millrace_bus=debug,info")]
    Filter(String),
    /// Someone was first.
    #[error("telemetry is already installed: {0}")]
    AlreadyInstalled(String),
    /// The recorder refused its settings: a mistake in this module.
    #[error("the metrics recorder refused its buckets: {0}")]
    Buckets(String),
}

/// Upper bounds for durations: a broker's ack in milliseconds to a warehouse load in minutes.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];
/// Upper bounds for sizes: an event to a large batch.
const BYTES: [f64; 8] =
    [256.0, 1_024.0, 8_192.0, 65_536.0, 524_288.0, 4_194_304.0, 33_554_432.0, 268_435_456.0];
/// Upper bounds for everything else, which is how many there were.
const COUNTS: [f64; 8] = [1.0, 5.0, 20.0, 100.0, 500.0, 2_500.0, 10_000.0, 100_000.0];

/// Sends the log to stderr. `filter` is a level or a list of targets in the syntax of `RUST_LOG`; the
/// caller decides where it comes from.
///
/// # Errors
/// The filter is malformed, or a subscriber is already installed.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter).map_err(|_| TelemetryError::Filter(filter.to_owned()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| TelemetryError::AlreadyInstalled(error.to_string()))
}

/// Makes the `metrics` macros of this process count, and returns what renders the counts.
///
/// # Errors
/// A recorder is already installed.
pub fn init_metrics() -> Result<MetricsHandle, TelemetryError> {
    let recorder = builder()?.build_recorder();
    let handle = MetricsHandle(recorder.handle());
    metrics::set_global_recorder(recorder)
        .map_err(|error| TelemetryError::AlreadyInstalled(error.to_string()))?;
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, TelemetryError> {
    let buckets = |error: metrics_exporter_prometheus::BuildError| TelemetryError::Buckets(error.to_string());
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES))
        .map_err(buckets)
}

impl MetricsHandle {
    /// A handle that belongs to no recorder and renders nothing: for tests of what carries one.
    ///
    /// # Errors
    /// The buckets are wrong, which a test of this module excludes.
    pub fn detached() -> Result<Self, TelemetryError> {
        Ok(Self(builder()?.build_recorder().handle()))
    }

    /// Everything counted so far, as `/metrics` serves it.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves raw histogram samples into their buckets. Call it every few seconds: until then each sample
    /// takes memory.
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }
}

impl std::fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsHandle")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_counted_is_rendered_with_buckets_by_unit() {
        let recorder = builder().unwrap().build_recorder();
        let handle = MetricsHandle(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("millrace_things_total", "kind" => "a").increment(2);
            metrics::histogram!("millrace_wait_seconds").record(0.2);
            metrics::histogram!("millrace_batch_bytes").record(1000.0);
        });
        let text = handle.render();
        assert!(text.contains("millrace_things_total{kind=\"a\"} 2"), "{text}");
        assert!(text.contains("millrace_wait_seconds_bucket{le=\"0.25\"} 1"), "{text}");
        assert!(text.contains("millrace_batch_bytes_bucket{le=\"1024\"} 1"), "{text}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        let error = init_logs(LogFormat::Text, "millrace=loud=x").unwrap_err();
        assert!(matches!(error, TelemetryError::Filter(_)), "{error}");
    }
}
