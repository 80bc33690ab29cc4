//! What an Airbyte source prints: one JSON message per line, and between them whatever its libraries print.
//!
//! Records stay as they are: only `stream`, `namespace` and `emitted_at` are read, and the row is a slice
//! of the line. Numbers that the protocol calls integers come as floats too (`1795552107849.076`).

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

/// The most of a log line or error text that is kept.
pub(super) const MAX_TEXT: usize = 8 << 10;

/// One line, understood.
#[derive(Debug)]
pub(super) enum Message {
    /// A row.
    Record { stream: String, namespace: Option<String>, json: Bytes, emitted_at: DateTime<Utc> },
    /// A state message, as the source wrote it.
    State(Value),
    /// A line for the log: a LOG message, or text that is no message at all.
    Log { level: &'static str, message: String },
    /// Something went wrong in the source. It may go on with other streams, but the attempt has failed.
    Error(SourceError),
    /// A stream ended before its end.
    Incomplete { stream: String },
    /// The answer to `discover`: the streams as the source wrote them.
    Catalog(Vec<Value>),
    /// The answer to `check`.
    Status { succeeded: bool, message: String },
    /// The source wants its settings changed: a token has been rotated.
    Control,
    /// A message that is nothing to us.
    Other,
}

/// What a source said of its failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceError {
    /// For people.
    pub(super) message: String,
    /// Its settings are to blame: trying again cannot help.
    pub(super) config: bool,
}

/// A message that cannot be read. Going on would lose a row or a state.
#[derive(Debug, thiserror::Error)]
#[error("malformed message")]
pub(super) struct Malformed(#[source] Box<dyn std::error::Error + Send + Sync>);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    record: Option<RecordBody<'a>>,
    state: Option<Value>,
    log: Option<LogBody>,
    trace: Option<TraceBody>,
    catalog: Option<CatalogBody>,
    #[serde(rename = "connectionStatus")]
    status: Option<StatusBody>,
}

#[derive(Deserialize)]
struct RecordBody<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
    /// Milliseconds since 1970, with or without a fraction.
    emitted_at: f64,
}

#[derive(Deserialize)]
struct LogBody {
    level: String,
    message: String,
}

#[derive(Deserialize)]
struct CatalogBody {
    streams: Vec<Value>,
}

#[derive(Deserialize)]
struct StatusBody {
    status: String,
    message: Option<String>,
}

#[derive(Deserialize)]
struct TraceBody {
    #[serde(rename = "type")]
    kind: String,
    error: Option<ErrorBody>,
    stream_status: Option<StreamStatusBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: Option<String>,
    internal_message: Option<String>,
    failure_type: Option<String>,
}

#[derive(Deserialize)]
struct StreamStatusBody {
    status: String,
    stream_descriptor: StreamName,
}

#[derive(Deserialize)]
struct StreamName {
    name: String,
}

/// Reads one line.
pub(super) fn parse(line: &Bytes) -> Result<Message, Malformed> {
    // Else an array would do for a struct.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Ok(Message::Log { level: "info", message: lossy(line) });
    }
    let envelope: Envelope<'_> = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(_) if !is_meant_as_message(line) => {
            return Ok(Message::Log { level: "info", message: lossy(line) });
        }
        Err(error) => return Err(Malformed(error.into())),
    };
    let missing = || Malformed(format!("{} without its body", envelope.kind).into());
    match envelope.kind.as_ref() {
        "RECORD" => record(line, envelope.record.ok_or_else(missing)?),
        "STATE" => Ok(Message::State(envelope.state.ok_or_else(missing)?)),
        "LOG" => {
            let log = envelope.log.ok_or_else(missing)?;
            Ok(Message::Log { level: level(&log.level), message: cut(log.message) })
        }
        "TRACE" => Ok(trace(envelope.trace.ok_or_else(missing)?)),
        "CATALOG" => Ok(Message::Catalog(envelope.catalog.ok_or_else(missing)?.streams)),
        "CONNECTION_STATUS" => {
            let status = envelope.status.ok_or_else(missing)?;
            let message = cut(status.message.unwrap_or_default());
            Ok(Message::Status { succeeded: status.status == "SUCCEEDED", message })
        }
        "CONTROL" => Ok(Message::Control),
        _ => Ok(Message::Other),
    }
}

/// Libraries print what they like to standard output, even objects; but what begins like a message, or is
/// JSON with a type of ours, was meant as one and is broken.
fn is_meant_as_message(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        _kind: IgnoredAny,
    }
    let compact: Vec<u8> = line.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(8).collect();
    compact.starts_with(b"{\"type\":") || serde_json::from_slice::<Typed>(line).is_ok()
}

fn record(line: &Bytes, body: RecordBody<'_>) -> Result<Message, Malformed> {
    let json = body.data.get();
    if !json.starts_with('{') {
        return Err(Malformed("the data of a record is no object".into()));
    }
    // Milliseconds with a fraction of a microsecond are within what a double holds exactly.
    #[expect(clippy::cast_possible_truncation, reason = "a moment beyond 64 bits of microseconds saturates")]
    let micros = (body.emitted_at * 1_000.0).round() as i64;
    Ok(Message::Record {
        stream: body.stream.into_owned(),
        namespace: body.namespace.map(Cow::into_owned),
        json: line.slice_ref(json.as_bytes()),
        emitted_at: DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| Malformed("emitted_at is no moment".into()))?,
    })
}

fn trace(body: TraceBody) -> Message {
    match (body.kind.as_str(), body.error, body.stream_status) {
        ("ERROR", Some(error), _) => {
            let config = error.failure_type.as_deref() == Some("config_error");
            let message = error.message.or(error.internal_message).unwrap_or_else(|| "no message".to_owned());
            Message::Error(SourceError { message: cut(message), config })
        }
        ("STREAM_STATUS", _, Some(status)) if status.status == "INCOMPLETE" => {
            Message::Incomplete { stream: status.stream_descriptor.name }
        }
        _ => Message::Other,
    }
}

fn level(name: &str) -> &'static str {
    match name {
        "FATAL" | "ERROR" => "error",
        "WARN" | "WARNING" => "warn",
        "DEBUG" => "debug",
        "TRACE" => "trace",
        _ => "info",
    }
}

/// At most [`MAX_TEXT`] bytes of a text.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// At most [`MAX_TEXT`] bytes of a line as text.
pub(super) fn lossy(line: &[u8]) -> String {
    cut(String::from_utf8_lossy(line.get(..MAX_TEXT).unwrap_or(line)).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn parsed(line: &'static str) -> Result<Message, Malformed> {
        parse(&Bytes::from_static(line.as_bytes()))
    }

    #[test]
    fn a_row_stays_as_it_was_written() {
        let line = r#" {"record":{"emitted_at":1795552107849.076,"data":{ "n":1.10, "big":123456789012345678901234567890 },
            "stream":"a\u0062","namespace":null},"type":"RECORD"}"#;
        let Message::Record { stream, namespace, json, emitted_at } = parsed(line).unwrap() else { panic!() };
        assert_eq!((stream.as_str(), namespace), ("ab", None));
        assert_eq!(json, r#"{ "n":1.10, "big":123456789012345678901234567890 }"#);
        assert_eq!(emitted_at.timestamp_micros(), 1_795_552_107_849_076);
    }

    #[test]
    fn text_between_messages_is_logged() {
        for line in ["hello", "{'a': 1}", "", "[1]", "{\"a\":1}", "\u{FFFD}"] {
            assert!(matches!(parsed(line), Ok(Message::Log { level: "info", .. })), "{line}");
        }
    }

    #[test]
    fn a_broken_message_is_an_error() {
        for line in [
            r#"{"type":"RECORD","record":{"stream":"a","da"#,
            r#"{ "type" : "RECORD"}"#,
            r#"{"record":{"stream":"a"},"type":"RECORD"}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":[1],"emitted_at":1}}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":{},"emitted_at":1e300}}"#,
            r#"{"type":"STATE"}"#,
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn errors_say_whether_the_settings_are_to_blame() {
        let line = r#"{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1.5,
            "error":{"message":"bad key","failure_type":"config_error"}}}"#;
        let Message::Error(error) = parsed(line).unwrap() else { panic!() };
        assert_eq!(error, SourceError { message: "bad key".to_owned(), config: true });
    }
}
