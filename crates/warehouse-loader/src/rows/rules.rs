//! The columns that a row has by rule, whatever the event's properties say (warehouse schema rules §2).

use millrace_event_model::parse_moment;
use serde_json::Value;

use super::MessageMetadata;
use super::datatype::{is_blank, typed};
use super::flatten::Columns;
use super::names::Names;

/// Where a column's value comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// A field of the event.
    Field(&'static str),
    /// A field of its context.
    Context(&'static str),
    /// The message id, or one made up.
    MessageId,
    /// When the server had it.
    ReceivedAt,
    /// `context.ip`, else the request's.
    Ip,
    /// The event's name, else that in its properties.
    Name,
}

type Rules = &'static [(&'static str, From)];

/// Of every event but `extract`.
pub(super) const DEFAULT: Rules = &[
    ("id", From::MessageId),
    ("anonymous_id", From::Field("anonymousId")),
    ("user_id", From::Field("userId")),
    ("sent_at", From::Field("sentAt")),
    ("timestamp", From::Field("timestamp")),
    ("received_at", From::ReceivedAt),
    ("original_timestamp", From::Field("originalTimestamp")),
    ("channel", From::Field("channel")),
    ("context_ip", From::Ip),
    ("context_request_ip", From::Field("request_ip")),
    ("context_passed_ip", From::Context("ip")),
];
/// Of track events.
pub(super) const TRACK: Rules = &[("event_text", From::Field("event"))];
/// Of page and screen events.
pub(super) const PAGE: Rules = &[("name", From::Name)];
/// Of group events.
pub(super) const GROUP: Rules = &[("group_id", From::Field("groupId"))];
/// Of alias events.
pub(super) const ALIAS: Rules = &[("previous_id", From::Field("previousId"))];
/// Of extract events.
pub(super) const EXTRACT: Rules = &[("received_at", From::ReceivedAt)];
/// Of users.
pub(super) const USERS: Rules = &[
    ("id", From::Field("userId")),
    ("received_at", From::ReceivedAt),
    ("context_ip", From::Ip),
    ("context_request_ip", From::Field("request_ip")),
    ("context_passed_ip", From::Context("ip")),
];
/// Of users, but not in lakes of files.
pub(super) const USERS_IN_DATABASES: Rules = &[
    ("sent_at", From::Field("sentAt")),
    ("timestamp", From::Field("timestamp")),
    ("original_timestamp", From::Field("originalTimestamp")),
];

/// Whether a column is set by rule for events of this type, so that a property of its name is dropped.
pub(super) fn is_reserved(event_type: &str, column: &str) -> bool {
    let (rules, others): (&[Rules], &[&str]) = match event_type {
        "track" => (&[DEFAULT, TRACK], &["record_id"]),
        "identify" => (&[DEFAULT], &[]),
        "page" | "screen" => (&[DEFAULT, PAGE], &[]),
        "group" => (&[DEFAULT, GROUP], &[]),
        "alias" => (&[DEFAULT, ALIAS], &[]),
        "extract" => (&[EXTRACT], &["id", "event"]),
        _ => (&[], &[]),
    };
    let column = column.to_ascii_lowercase();
    rules.iter().copied().flatten().any(|(name, _)| *name == column) || others.contains(&column.as_str())
}

/// Sets the columns of these rules. A value that is blank, a list or an object is none: then there is no
/// such column, whoever set it before.
pub(super) fn apply(
    rules: &[(&str, From)],
    message: &Value,
    metadata: &MessageMetadata<'_>,
    names: &Names<'_>,
    columns: &mut Columns,
) {
    for (name, from) in rules {
        set(name, &from.value(message, metadata), names, columns);
    }
}

/// Sets a column to a value that a rule gave.
pub(super) fn set(name: &str, value: &Value, names: &Names<'_>, columns: &mut Columns) {
    let column = names.safe_column(name);
    if is_plain(value) {
        columns.set(column, typed(value, names.dialect));
    } else {
        columns.remove(&column);
    }
}

/// Neither blank nor a list nor an object.
pub(super) fn is_plain(value: &Value) -> bool {
    !is_blank(value) && !value.is_array() && !value.is_object()
}

impl From {
    fn value(self, message: &Value, metadata: &MessageMetadata<'_>) -> Value {
        let field = |name: &str| message.get(name).cloned().unwrap_or_default();
        let inner = |object: &str, name: &str| {
            message.get(object).and_then(|inner| inner.get(name)).cloned().unwrap_or_default()
        };
        match self {
            Self::Field(name) => field(name),
            Self::Context(name) => inner("context", name),
            Self::MessageId => {
                let id = field("messageId");
                if is_blank(&id) { Value::String(format!("auto-{}", metadata.new_id)) } else { id }
            }
            Self::ReceivedAt => received_at(message, metadata),
            Self::Ip => {
                let ip = inner("context", "ip");
                if is_blank(&ip) { field("request_ip") } else { ip }
            }
            Self::Name => {
                let name = field("name");
                if is_blank(&name) { inner("properties", "name") } else { name }
            }
        }
    }
}

fn received_at(message: &Value, metadata: &MessageMetadata<'_>) -> Value {
    let given = message.get("receivedAt").and_then(Value::as_str);
    let known = [given, metadata.received_at].into_iter().flatten().find(|text| parse_moment(text).is_some());
    let text = known.map_or_else(
        || millrace_columnar::format_moment(metadata.now.timestamp_millis() * 1_000),
        str::to_owned,
    );
    Value::String(text)
}
