//! Latencies, and the window in which they are measured.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// Latencies above this count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Digits of a latency that are exact.
const SIGNIFICANT_DIGITS: u8 = 3;

/// When what is sent is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Window {
    /// Whether the moment lies in it.
    pub(crate) fn has(self, moment: Instant) -> bool {
        self.from <= moment && moment < self.to
    }
}

/// All latencies of a window.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self, BenchError> {
        Histogram::new_with_max(LONGEST.as_micros() as u64, SIGNIFICANT_DIGITS)
            .map(Self)
            .map_err(|error| BenchError::Failed(error.to_string()))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_micros() as u64);
    }

    pub(crate) fn summary(&self) -> Latency {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: self.0.max() as f64 / 1000.0 }
    }
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}
