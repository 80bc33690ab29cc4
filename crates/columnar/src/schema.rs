//! The columns of a table.

use std::collections::BTreeMap;

use millrace_event_model::FieldType;

/// Column types by column name.
pub type TableSchema = BTreeMap<String, FieldType>;
