//! The columns that a row has by rule, whatever the event's properties say (warehouse schema rules §2).

use super::message::{Given, Message};

/// Where a column's value comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// The message id, or one made up.
    MessageId,
    /// `anonymousId`.
    AnonymousId,
    /// `userId`.
    UserId,
    /// `sentAt`.
    SentAt,
    /// `timestamp`.
    Timestamp,
    /// When the server had it.
    ReceivedAt,
    /// `originalTimestamp`.
    OriginalTimestamp,
    /// `channel`.
    Channel,
    /// `context.ip`, else the request's.
    Ip,
    /// The request's address.
    RequestIp,
    /// `context.ip`.
    PassedIp,
    /// `event`.
    Event,
    /// The event's name, else that in its properties.
    Name,
    /// `groupId`.
    GroupId,
    /// `previousId`.
    PreviousId,
}

pub(super) type Rules = &'static [(&'static str, From)];

/// Of every event but `extract`.
pub(super) const DEFAULT: Rules = &[
    ("id", From::MessageId),
    ("anonymous_id", From::AnonymousId),
    ("user_id", From::UserId),
    ("sent_at", From::SentAt),
    ("timestamp", From::Timestamp),
    ("received_at", From::ReceivedAt),
    ("original_timestamp", From::OriginalTimestamp),
    ("channel", From::Channel),
    ("context_ip", From::Ip),
    ("context_request_ip", From::RequestIp),
    ("context_passed_ip", From::PassedIp),
];
/// Of track events.
pub(super) const TRACK: Rules = &[("event_text", From::Event)];
/// Of page and screen events.
pub(super) const PAGE: Rules = &[("name", From::Name)];
/// Of group events.
pub(super) const GROUP: Rules = &[("group_id", From::GroupId)];
/// Of alias events.
pub(super) const ALIAS: Rules = &[("previous_id", From::PreviousId)];
/// Of extract events.
pub(super) const EXTRACT: Rules = &[("received_at", From::ReceivedAt)];
/// Of users.
pub(super) const USERS: Rules = &[
    ("id", From::UserId),
    ("received_at", From::ReceivedAt),
    ("context_ip", From::Ip),
    ("context_request_ip", From::RequestIp),
    ("context_passed_ip", From::PassedIp),
];
/// Of users, but not in lakes of files.
pub(super) const USERS_IN_DATABASES: Rules = &[
    ("sent_at", From::SentAt),
    ("timestamp", From::Timestamp),
    ("original_timestamp", From::OriginalTimestamp),
];

/// Which rows an event makes: by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Track,
    Identify,
    Page,
    Screen,
    Group,
    Alias,
    /// A record of a cloud source.
    Extract,
}

impl Kind {
    /// `event_type` is in lower case.
    pub(super) fn of(event_type: &str) -> Option<Self> {
        Some(match event_type {
            "track" => Self::Track,
            "identify" => Self::Identify,
            "page" => Self::Page,
            "screen" => Self::Screen,
            "group" => Self::Group,
            "alias" => Self::Alias,
            "extract" => Self::Extract,
            _ => return None,
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Identify => "identify",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
            Self::Extract => "extract",
        }
    }

    /// The rules of its rows, in order.
    pub(super) fn rules(self) -> [Rules; 2] {
        match self {
            Self::Track => [TRACK, DEFAULT],
            Self::Identify => [DEFAULT, &[]],
            Self::Page | Self::Screen => [DEFAULT, PAGE],
            Self::Group => [DEFAULT, GROUP],
            Self::Alias => [DEFAULT, ALIAS],
            Self::Extract => [EXTRACT, &[]],
        }
    }

    /// Whether a column is set by rule for events of this type, so that a property of its name is dropped.
    pub(super) fn reserves(self, column: &str) -> bool {
        let others: &[&str] = match self {
            Self::Track => &["record_id"],
            Self::Extract => &["id", "event"],
            _ => &[],
        };
        let column = column.to_ascii_lowercase();
        let by_rule = self.rules().into_iter().flatten().any(|(name, _)| *name == column);
        by_rule || others.contains(&column.as_str())
    }
}

impl From {
    pub(super) fn value<'m, 'e>(self, message: &'m Message<'e>) -> &'m Given<'e> {
        match self {
            Self::MessageId => &message.id,
            Self::AnonymousId => &message.anonymous_id,
            Self::UserId => &message.user_id,
            Self::SentAt => &message.sent_at,
            Self::Timestamp => &message.timestamp,
            Self::ReceivedAt => &message.received_at,
            Self::OriginalTimestamp => &message.original_timestamp,
            Self::Channel => &message.channel,
            Self::RequestIp => &message.request_ip,
            Self::Ip if message.passed_ip.is_blank() => &message.request_ip,
            Self::Ip | Self::PassedIp => &message.passed_ip,
            Self::Event => &message.event,
            Self::Name => &message.name,
            Self::GroupId => &message.group_id,
            Self::PreviousId => &message.previous_id,
        }
    }
}
