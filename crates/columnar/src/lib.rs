//! Rows to Arrow to Parquet: the cells of a row, the schema of a table, and how types widen.
//!
//! A [`Row`] is what a stage makes of an event or a record. [`coerce`](coerce()) fits its cells into the
//! columns that the table has, [`batch_of`] makes an Arrow batch of many rows, and [`JsonRows`] is the way
//! back to JSON. [`Rows`] gathers rows column by column instead; no stage does so yet. [`widen`] says how the
//! types of a batch and of a table come together: only ever wider.
//! Nothing here does I/O but [`ParquetWriter`] and [`ParquetReader`].

pub use arrow;
pub use parquet;

mod batch;
mod cell;
mod coerce;
mod json;
mod moment;
mod parquet_file;
mod rows;
mod schema;
pub mod widen;

pub use batch::{
    BatchError, TYPE_KEY, arrow_type, batch_of, field_type_of, rows_of, schema_of, table_schema_of,
};
pub use cell::{Cell, Row};
pub use coerce::{Coerced, coerce, text_of};
pub use json::JsonRows;
pub use moment::format_moment;
pub use parquet_file::{ParquetError, ParquetReader, ParquetWriter, parquet_bytes};
pub use rows::{Block, BlockColumn, CellRef, ColumnId, Rows};
pub use schema::TableSchema;
