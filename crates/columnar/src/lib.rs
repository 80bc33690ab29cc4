//! Rows to Arrow to Parquet: the cells of a row, the schema of a table, and how types widen.

pub use arrow;
pub use parquet;

mod cell;
mod schema;

pub use cell::{Cell, Row};
pub use schema::TableSchema;
