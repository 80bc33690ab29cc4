//! An event to rows: which tables it fills, with which columns, of which types.
//!
//! The rules are RudderStack's (warehouse schema rules §1 to §5; `docs/warehouse-schema.md`), so that tables it
//! has made go on being filled. All of it is pure. A [`RowMapper`] reads an event's JSON once and writes its
//! cells straight into the columns of [`RowsOfTables`], borrowing the text that stands in the event; names,
//! which cost more than values, it makes once and remembers. A preview asks the same mapper.
//!
//! - `mapper`: the rows of each type of event; `rules`: the columns a row has by rule;
//! - `message`: the fields of an event, of which what the server decided wins; `json`: reading it;
//! - `flatten`: nested properties to columns; `datatype`: a value's type; `shape`: remembered names;
//! - `cells`, `tables`: a row as it comes together, and the rows of many events;
//! - `names`, `words`: names that a warehouse takes; `options`: what changes all this;
//! - `preview`: rows as JSON, and RudderStack's transformer input.

mod cells;
mod datatype;
mod flatten;
mod json;
mod mapper;
mod message;
mod names;
mod options;
mod preview;
mod rules;
mod shape;
mod tables;
mod words;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

use millrace_connector::Dialect;

pub(crate) use json::parse_object;
pub use mapper::RowMapper;
pub(crate) use message::MessageMetadata;
pub(crate) use names::{list_table, marked, stream_column, stream_table};
pub use options::MappingOptions;
pub(crate) use preview::{MappedRow, rows_of_message, rows_of_transformer_input};
pub use tables::{RowsOfTables, TableBlock};

/// What rows depend on besides the event.
#[derive(Debug, Clone)]
pub struct Mapping<'a> {
    /// The warehouse's.
    pub dialect: &'a Dialect,
    /// The destination's.
    pub options: MappingOptions,
    /// Where the event came in.
    pub source: SourceContext,
    /// Becomes the column `context_destination_id`.
    pub destination_id: Option<String>,
    /// Becomes the column `context_destination_type`.
    pub destination_type: Option<String>,
    /// What becomes of nested values of ELT streams.
    pub nested: Nested,
}

/// What becomes of the objects and lists in the rows of ELT streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Nested {
    /// A column of JSON.
    #[default]
    Json,
    /// A column for each field of an object, the names joined by `_`. Lists are JSON.
    Flatten,
    /// As [`Self::Flatten`], and a table for each list that the schema declares. The lists of streams whose rows
    /// replace each other by key stay JSON: which rows of a list are gone, nobody says.
    Tables,
}

impl<'a> Mapping<'a> {
    /// A mapping without options.
    #[must_use]
    pub fn new(dialect: &'a Dialect) -> Self {
        Self {
            dialect,
            options: MappingOptions::default(),
            source: SourceContext::default(),
            destination_id: None,
            destination_type: None,
            nested: Nested::default(),
        }
    }
}

/// Where an event came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceContext {
    /// Becomes the column `context_source_id`.
    pub id: Option<String>,
    /// Becomes the column `context_source_type`.
    pub source_type: Option<String>,
    /// `cloud` and `singer-protocol` have rules of their own.
    pub category: Option<String>,
}
