//! When an event happened, in the forms that APIs want.

use chrono::{DateTime, SecondsFormat};
use millrace_connector::Document;
use millrace_event_model::parse_moment;

/// When it happened by the server's clock, else by the client's.
const HAPPENED: &[&str] = &["timestamp", "originalTimestamp"];

/// When the server had it, else the latest that the client says.
const RECEIVED: &[&str] = &["receivedAt", "sentAt", "originalTimestamp"];

/// When the event happened, in milliseconds since 1970 UTC.
pub(crate) fn happened(document: &Document) -> Option<i64> {
    first_moment(document, HAPPENED)
}

/// When the event happened, as it is written there.
pub(crate) fn happened_as_written(document: &Document) -> Option<&str> {
    HAPPENED.iter().find_map(|path| document.text(path).filter(|text| parse_moment(text).is_some()))
}

/// When the server had the event, in milliseconds since 1970 UTC.
pub(crate) fn received(document: &Document) -> Option<i64> {
    first_moment(document, RECEIVED)
}

/// RFC 3339 in UTC with milliseconds, of milliseconds since 1970 UTC.
pub(crate) fn rfc3339(millis: i64) -> Option<String> {
    let at = DateTime::from_timestamp_millis(millis)?;
    Some(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The first of the paths that is a moment, in milliseconds since 1970 UTC.
pub(crate) fn first_moment(document: &Document, paths: &[&str]) -> Option<i64> {
    paths.iter().find_map(|path| document.text(path).and_then(parse_moment)).map(|micros| micros / 1_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_that_is_no_moment_is_passed_over() {
        let fields = json!({"timestamp": "soon", "originalTimestamp": "2023-11-14T22:13:20.5+00:00"});
        let document = Document::complete(fields.as_object().unwrap().clone());
        assert_eq!(happened(&document), Some(1_700_000_000_500));
        assert_eq!(happened_as_written(&document), Some("2023-11-14T22:13:20.5+00:00"));
        assert_eq!(rfc3339(1_700_000_000_500).as_deref(), Some("2023-11-14T22:13:20.500Z"));
    }
}
