//! Every way in which a request is not accepted, with its answer; and why the stage cannot run.

use hyper::StatusCode;
use millrace_bus::BusError;
use millrace_event_model::SourceId;

use crate::TlsError;

/// The stage cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// Two sources would answer to one key.
    #[error("sources {0} and {1} have the same write key")]
    SharedWriteKey(SourceId, SourceId),
    /// The certificate cannot be used.
    #[error("ingest cannot serve TLS")]
    Tls(#[source] TlsError),
    /// The producer cannot be made.
    #[error("cannot make the producer of ingest")]
    Bus(#[source] BusError),
    /// At the end, events were still on their way; none of them was answered with 200.
    #[error("events were still on their way when ingest stopped")]
    Drain(#[source] BusError),
}

/// A request that is not accepted. Nothing of it counts as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// No write key where the path wants one.
    NoWriteKey,
    /// No source has this key.
    UnknownWriteKey,
    /// No write key in the query where the path wants one.
    NoWriteKeyInQuery,
    /// No header with the source's name where the path wants one.
    NoSourceId,
    /// No source has this name.
    UnknownSource,
    /// The source is not a replay of another.
    NotAReplay,
    /// The source is not connected to this destination.
    UnknownDestination,
    /// The destination is turned off.
    DestinationDisabled,
    /// The source is turned off.
    SourceDisabled,
    /// The page is not one of the source's `origins`.
    ForeignOrigin,
    /// A `track` of an image with an empty name. It is answered with the image all the same.
    NoEventName,
    /// The body is said to be a form in parts, and is none.
    NotAForm,
    /// The body broke off, or is not the gzip that it is said to be.
    UnreadableBody,
    /// The body is not JSON.
    InvalidJson,
    /// Objects and arrays stand too deep inside one another: no consumer would read it.
    TooDeep,
    /// An event has more fields than the limit.
    TooManyFields,
    /// An event is not a JSON object.
    NotAnEvent,
    /// An event has neither `anonymousId` nor `userId`.
    NoIdentity,
    /// A batch without events.
    EmptyBatch,
    /// The body, an event or the number of events is beyond its limit.
    TooLarge,
    /// The body did not arrive in time.
    Slow,
    /// The source has sent more than its `rate_limit`.
    RateLimited {
        /// When it may go on.
        seconds: u32,
    },
    /// One of the bounds on what is under way.
    Overloaded,
    /// The producer's queue is full: that says nothing of Kafka, which may be well, nor of the memory for bodies.
    QueueFull,
    /// The policy could not be applied. Passing the event on unmasked is not an answer.
    Unmaskable,
    /// Whom to forget is not known yet, or not any more.
    Unprepared,
    /// Not all events were acked in time.
    NotStored,
}

impl Refusal {
    /// Status and body. The texts are RudderStack's where it has one: Android and iOS look for them.
    /// None is JSON, since the Python SDK takes a JSON body for permission to retry a 4xx.
    pub(crate) fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::NoWriteKey => (StatusCode::UNAUTHORIZED, "failed to read writekey from header"),
            Self::UnknownWriteKey => (StatusCode::UNAUTHORIZED, "invalid write key"),
            Self::NoWriteKeyInQuery => {
                (StatusCode::UNAUTHORIZED, "failed to read writekey from query params")
            }
            Self::NoSourceId => (StatusCode::UNAUTHORIZED, "failed to read source id from header"),
            Self::UnknownSource => (StatusCode::UNAUTHORIZED, "invalid source id"),
            Self::NotAReplay => (StatusCode::UNAUTHORIZED, "invalid replay source"),
            Self::UnknownDestination => (StatusCode::BAD_REQUEST, "invalid destination id"),
            Self::DestinationDisabled => (StatusCode::NOT_FOUND, "destination is disabled"),
            Self::SourceDisabled => (StatusCode::NOT_FOUND, "source is disabled"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "origin is not allowed"),
            Self::NoEventName => (StatusCode::BAD_REQUEST, "track: Mandatory field 'event' missing"),
            Self::NotAForm => (StatusCode::BAD_REQUEST, "error during parsing multiform"),
            Self::UnreadableBody => (StatusCode::INTERNAL_SERVER_ERROR, "failed to read body from request"),
            Self::InvalidJson => (StatusCode::BAD_REQUEST, "invalid json"),
            Self::TooDeep => (StatusCode::BAD_REQUEST, "event is nested too deeply"),
            Self::TooManyFields => (StatusCode::BAD_REQUEST, "event has too many fields"),
            Self::NotAnEvent => (StatusCode::BAD_REQUEST, "event is not a valid rudder event"),
            Self::NoIdentity => (StatusCode::BAD_REQUEST, "request neither has anonymousId nor userId"),
            Self::EmptyBatch => (StatusCode::BAD_REQUEST, "empty batch payload"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request size exceeds max limit"),
            Self::Slow => (StatusCode::SERVICE_UNAVAILABLE, "the body did not arrive in time"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "max requests limit reached"),
            Self::Overloaded | Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
            Self::Unmaskable => (StatusCode::SERVICE_UNAVAILABLE, "the privacy policy could not be applied"),
            Self::Unprepared => (StatusCode::SERVICE_UNAVAILABLE, "the suppressed users are not known yet"),
            Self::NotStored => (StatusCode::SERVICE_UNAVAILABLE, "the events could not be stored"),
        }
    }

    /// The name in metrics and the log.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::NoWriteKey => "no_write_key",
            Self::UnknownWriteKey => "unknown_write_key",
            Self::NoWriteKeyInQuery => "no_write_key",
            Self::NoSourceId => "no_source_id",
            Self::UnknownSource => "unknown_source",
            Self::NotAReplay => "not_a_replay",
            Self::UnknownDestination => "unknown_destination",
            Self::DestinationDisabled => "destination_disabled",
            Self::SourceDisabled => "source_disabled",
            Self::ForeignOrigin => "foreign_origin",
            Self::NoEventName => "no_event_name",
            Self::NotAForm => "not_a_form",
            Self::UnreadableBody => "unreadable_body",
            Self::InvalidJson => "invalid_json",
            Self::TooDeep => "too_deep",
            Self::TooManyFields => "too_many_fields",
            Self::NotAnEvent => "not_an_event",
            Self::NoIdentity => "no_identity",
            Self::EmptyBatch => "empty_batch",
            Self::TooLarge => "too_large",
            Self::Slow => "slow_body",
            Self::RateLimited { .. } => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::QueueFull => "queue_full",
            Self::Unmaskable => "unmaskable",
            Self::Unprepared => "unprepared",
            Self::NotStored => "not_stored",
        }
    }

    /// What a failed publish means for the client.
    pub(crate) fn of_publish(error: &BusError) -> Self {
        match error {
            BusError::QueueFull => Self::QueueFull,
            // Seen before it was sent.
            BusError::TooLarge { .. } => Self::TooLarge,
            // Whatever the broker says of a batch, it says of all that share it: for somebody else's event, too,
            // and a client that is told 4xx drops its own.
            _ => Self::NotStored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_clients_own_fault_is_a_refusal_for_good() {
        let topic = || "t".to_owned();
        for (error, refusal) in [
            (BusError::TooLarge { topic: topic(), bytes: 2_000_000 }, Refusal::TooLarge),
            (BusError::QueueFull, Refusal::QueueFull),
            (BusError::AckTimeout { topic: topic(), waited: std::time::Duration::ZERO }, Refusal::NotStored),
            (BusError::MissingTopic { topic: topic(), workspace: "acme".to_owned() }, Refusal::NotStored),
        ] {
            assert_eq!(Refusal::of_publish(&error), refusal, "{error}");
        }
    }
}
