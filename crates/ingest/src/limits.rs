//! What is too much.

use std::time::Duration;

use millrace_event_model::topics::MAX_EVENT_BYTES;

/// Bounds. What lies beyond is answered, never queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A request's body, as received and after inflating. More is 413.
    pub body_bytes: usize,
    /// One event. More is 413: the record would not fit the topic.
    pub event_bytes: usize,
    /// Fields of one event, those of nested objects included. More is 400.
    pub fields_per_event: usize,
    /// Events of one request. More is 413: a request that can never fit the producer's queue would be
    /// retried for ever.
    pub events_per_request: usize,
    /// Open connections. More wait in the kernel's backlog.
    pub connections: usize,
    /// A connection that takes longer over its handshake, or to send a request's head, is cut; whole seconds.
    pub head_timeout: Duration,
    /// A connection without a request for longer is closed; whole seconds. More than proxies use.
    pub idle_timeout: Duration,
    /// Requests under way at once. More are answered 503.
    pub requests: usize,
    /// Bytes of bodies under way at once, received and inflated together. More are answered 503.
    pub bytes_in_flight: usize,
    /// A body must have arrived after this long, else 503.
    pub body_timeout: Duration,
    /// The events of a request must be acked after this long, else 503.
    pub ack_timeout: Duration,
    /// Bytes waiting in the producer.
    pub queue_bytes: usize,
    /// How long events wait to share a batch to the broker: part of every request's time.
    pub linger: Duration,
    /// After the order to stop, connections are still taken for so long: load balancers need a moment to hear.
    pub lame_duck: Duration,
    /// After that, requests under way have this long.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // RudderStack's 4000 KB.
            body_bytes: 4_096_000,
            event_bytes: MAX_EVENT_BYTES,
            fields_per_event: 10_000,
            events_per_request: 10_000,
            connections: 10_000,
            head_timeout: Duration::from_secs(10),
            // Above the 60 s after which common load balancers let go of a connection, so that they do first.
            idle_timeout: Duration::from_secs(75),
            requests: 1024,
            bytes_in_flight: 128 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            // A client hears 503 within five seconds.
            ack_timeout: Duration::from_secs(4),
            queue_bytes: 64 * 1024 * 1024,
            // As Kafka's own producers since 4.0: batches cost some 5 % less CPU than at 1 ms, and are stored four
            // milliseconds later (docs/performance.md, also for where 1 ms is the better choice).
            linger: Duration::from_millis(5),
            lame_duck: Duration::from_millis(500),
            drain: Duration::from_secs(10),
        }
    }
}

/// A limit that cannot be kept beside the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitConflict {
    /// The limit's name.
    pub limit: &'static str,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// The process that the stage runs in ends after a minute of draining, whatever is left.
const LONGEST_STOP: Duration = Duration::from_secs(50);

impl Limits {
    /// Limits of which one makes another senseless: a request that can never be taken would be answered 503,
    /// and sent again, for ever.
    #[must_use]
    pub fn conflicts(&self) -> Vec<LimitConflict> {
        let mut conflicts = Vec::new();
        let mut say = |limit, problem| conflicts.push(LimitConflict { limit, problem });
        if self.event_bytes > MAX_EVENT_BYTES {
            let most = MAX_EVENT_BYTES / 1024;
            say(
                "event_bytes",
                format!("must not exceed {most}KiB: the record of a larger event fits no topic"),
            );
        }
        // Compressed and inflated, it is there twice.
        let whole = self.body_bytes.saturating_mul(2);
        for (limit, bytes) in [("bytes_in_flight", self.bytes_in_flight), ("queue_bytes", self.queue_bytes)] {
            if bytes < whole {
                let body = self.body_bytes;
                say(
                    limit,
                    format!(
                        "must be at least {whole}, which is twice `body_bytes` ({body}): the largest body would never be taken"
                    ),
                );
            }
        }
        for (limit, time) in [("head_timeout", self.head_timeout), ("idle_timeout", self.idle_timeout)] {
            if time < Duration::from_secs(1) {
                say(limit, "is counted in whole seconds: use at least 1s".to_owned());
            }
        }
        if self.linger >= self.ack_timeout {
            let wait = self.ack_timeout;
            say(
                "linger",
                format!("must be shorter than `ack_timeout` ({wait:?}): no event would be stored in time"),
            );
        }
        if self.drain < self.ack_timeout {
            let wait = self.ack_timeout;
            say(
                "drain",
                format!("must be at least `ack_timeout` ({wait:?}), for which requests under way may wait"),
            );
        }
        if self.drain.saturating_add(self.lame_duck) > LONGEST_STOP {
            say(
                "drain",
                format!("must not exceed {LONGEST_STOP:?} together with `lame_duck`: the process ends then"),
            );
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_contradict_each_other_are_named() {
        let usual = Limits::default;
        let seconds = Duration::from_secs;
        for (limits, expected) in [
            (usual(), &[][..]),
            (Limits { event_bytes: 900 * 1024 + 1, ..usual() }, &["event_bytes"]),
            (Limits { body_bytes: 100_000_000, ..usual() }, &["bytes_in_flight", "queue_bytes"]),
            (Limits { head_timeout: Duration::from_millis(500), ..usual() }, &["head_timeout"]),
            (Limits { ack_timeout: seconds(20), ..usual() }, &["drain"]),
            (Limits { linger: seconds(4), ..usual() }, &["linger"]),
            (Limits { drain: seconds(60), ..usual() }, &["drain"]),
        ] {
            let named: Vec<_> = limits.conflicts().into_iter().map(|conflict| conflict.limit).collect();
            assert_eq!(named, expected, "{limits:?}");
        }
    }
}
