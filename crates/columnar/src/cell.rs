//! One value of a row, typed.

use std::collections::BTreeMap;

use millrace_event_model::FieldType;

/// A typed value. The moment is microseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// See [`FieldType::Int`].
    Int(i64),
    /// See [`FieldType::Float`].
    Float(f64),
    /// See [`FieldType::Boolean`].
    Boolean(bool),
    /// Microseconds since 1970 UTC.
    DateTime(i64),
    /// Text of type `string` or `text`.
    String(String),
    /// A JSON document as text.
    Json(String),
    /// The digits of a decimal number, such as `-12.340`: no exponent, no superfluous sign.
    Decimal(String),
    /// Days since 1970.
    Date(i32),
    /// `hh:mm:ss`, with up to six digits of a second's fraction.
    Time(String),
    /// Microseconds since 1970 on a clock of no time zone.
    LocalDateTime(i64),
    /// Lower case, with hyphens.
    Uuid(String),
}

impl Cell {
    /// The type this value has by itself; `None` for null.
    #[must_use]
    pub fn field_type(&self) -> Option<FieldType> {
        match self {
            Self::Null => None,
            Self::Int(_) => Some(FieldType::Int),
            Self::Float(_) => Some(FieldType::Float),
            Self::Boolean(_) => Some(FieldType::Boolean),
            Self::DateTime(_) => Some(FieldType::DateTime),
            Self::String(_) => Some(FieldType::String),
            Self::Json(_) => Some(FieldType::Json),
            Self::Decimal(_) => Some(FieldType::Decimal),
            Self::Date(_) => Some(FieldType::Date),
            Self::Time(_) => Some(FieldType::Time),
            Self::LocalDateTime(_) => Some(FieldType::LocalDateTime),
            Self::Uuid(_) => Some(FieldType::Uuid),
        }
    }
}

/// Cells by column name.
pub type Row = BTreeMap<String, Cell>;
