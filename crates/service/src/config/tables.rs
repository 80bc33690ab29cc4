//! What a connection may do to the tables of its schema, and how its events become rows of them.

use schemars::JsonSchema;
use serde::Deserialize;

/// What happens when a batch asks for a table, a column or a wider type that is not there. Values that do not
/// fit the type of a column of events are discarded in any case: such a column never changes its type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// The schema grows. What a column of an ELT stream cannot hold goes to a column of its own beside it.
    #[default]
    Evolve,
    /// The connection stops and says what it would have changed, until a person has decided.
    Freeze,
    /// The row goes whole to `rudder_discards`, with the reason.
    DiscardRow,
    /// The value goes to `rudder_discards`, with the reason; the row is loaded without it.
    DiscardValue,
}

impl Contract {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evolve => "evolve",
            Self::Freeze => "freeze",
            Self::DiscardRow => "discard_row",
            Self::DiscardValue => "discard_value",
        }
    }
}

/// How rows of events are written. The table `users` is merged in either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowMode {
    /// Each row is added: retries of clients are recognised by their message ids, not by the table.
    #[default]
    Append,
    /// A row replaces the one with the same `id`, however old that is.
    Merge,
}
