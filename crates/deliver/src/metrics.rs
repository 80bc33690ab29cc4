//! The stage's metrics, one set for each destination. Never labelled by user, event name or message id.

use chrono::TimeDelta;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use millrace_event_model::{DestinationId, Reason};

use crate::ledger::{End, Filtered};

pub(crate) struct Metrics {
    destination: String,
    sent: Counter,
    latency: Histogram,
    unfinished: Gauge,
    unstored: Gauge,
    parked: Gauge,
    paused: Gauge,
    breaker: Gauge,
    throttled: Gauge,
}

impl Metrics {
    pub(crate) fn of(destination: &DestinationId) -> Self {
        let destination = destination.to_string();
        Self {
            sent: counter!(
                "millrace_component_sent_events_total", "role" => "deliver",
                "component" => destination.clone()
            ),
            latency: histogram!("millrace_delivery_latency_seconds", "destination" => destination.clone()),
            unfinished: gauge!("millrace_deliver_unfinished_items", "destination" => destination.clone()),
            unstored: gauge!("millrace_deliver_unstored_items", "destination" => destination.clone()),
            parked: gauge!("millrace_deliver_parked_items", "destination" => destination.clone()),
            paused: gauge!("millrace_destination_paused", "destination" => destination.clone()),
            breaker: gauge!("millrace_destination_breaker_open", "destination" => destination.clone()),
            throttled: gauge!("millrace_destination_throttled", "destination" => destination.clone()),
            destination,
        }
    }

    /// From the door to the destination's yes, of the item of a call that waited longest: one record a
    /// call.
    pub(crate) fn delivered(&self, latency: TimeDelta) {
        self.latency.record(latency.to_std().unwrap_or_default().as_secs_f64());
    }

    /// An attempt failed; the code is one of a connector's few.
    pub(crate) fn failed(&self, reason: &Reason) {
        counter!(
            "millrace_component_errors_total", "role" => "deliver",
            "component" => self.destination.clone(), "error_class" => reason.code.clone()
        )
        .increment(1);
    }

    /// An item has ended.
    pub(crate) fn ended(&self, end: &End) {
        let (reason, intentional) = match end {
            End::Delivered => return self.sent.increment(1),
            End::Filtered(Filtered::Consent) => ("no_consent", "true"),
            End::Filtered(Filtered::Client) => ("integrations", "true"),
            End::Filtered(Filtered::Connection) => ("filtered", "true"),
            End::LeftOut(_) => ("left_out", "true"),
            End::Filtered(Filtered::Destination) => ("nothing_to_send", "true"),
            End::Duplicate => ("duplicate", "true"),
            End::Superseded => ("superseded", "true"),
            End::Rejected(..) => ("rejected", "false"),
        };
        self.discarded(reason, intentional, 1);
    }

    /// Retention took so many before they were read.
    pub(crate) fn expired(&self, items: u64) {
        self.discarded("expired", "false", items);
    }

    fn discarded(&self, reason: &'static str, intentional: &'static str, items: u64) {
        counter!(
            "millrace_component_discarded_events_total", "role" => "deliver",
            "component" => self.destination.clone(), "reason" => reason, "intentional" => intentional
        )
        .increment(items);
    }

    /// How things stand when what has ended is about to be stored: once nothing is unfinished or unstored, a
    /// crash repeats nothing.
    pub(crate) fn standing(&self, unfinished: usize, unstored: usize, parked: usize) {
        self.unfinished.set(unfinished as f64);
        self.unstored.set(unstored as f64);
        self.parked.set(parked as f64);
    }

    /// Whether it may be sent to, and if not, whose word that is: a person's or an answer's that asks for
    /// one, a run of failures, or an answer that asks for time.
    pub(crate) fn open(&self, gate: bool, breaker: bool, throttled: bool) {
        self.paused.set(f64::from(u8::from(!gate)));
        self.breaker.set(f64::from(u8::from(!breaker)));
        self.throttled.set(f64::from(u8::from(throttled)));
    }
}
