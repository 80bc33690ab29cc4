//! The types that a warehouse column may have, in the terms of the warehouse schema rules §5.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A column's type before a dialect gives it a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Signed, 64 bits.
    Int,
    /// Double precision.
    Float,
    /// True or false.
    Boolean,
    /// A moment, microseconds since 1970 UTC.
    DateTime,
    /// Text of any length, but for dialects that limit it.
    String,
    /// Long text, for dialects that tell it from `string` (Redshift); elsewhere the same as `string`.
    Text,
    /// A JSON document as text.
    Json,
    /// A decimal number of any precision. Only ELT streams have the types from here on: an event's own
    /// values never do.
    Decimal,
    /// A day without a time.
    Date,
    /// A time of day without a day.
    Time,
    /// A date and time of no time zone, in microseconds.
    LocalDateTime,
    /// A UUID.
    Uuid,
}

impl FieldType {
    /// The name in previews and in `rudder_discards`: `int`, `float`, `boolean`, `datetime`, `string`,
    /// `text`, `json`; for ELT also `decimal`, `date`, `time`, `localdatetime`, `uuid`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::DateTime => "datetime",
            Self::String => "string",
            Self::Text => "text",
            Self::Json => "json",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::Time => "time",
            Self::LocalDateTime => "localdatetime",
            Self::Uuid => "uuid",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
