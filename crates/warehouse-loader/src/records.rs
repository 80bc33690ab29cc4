//! ELT: the rows of a source between its barriers, to rows of tables.
//!
//! - `scan`: which rows are real, by reading ahead;
//! - `table`, `row`: a stream's table, and a row's cells;
//! - `prepare`: a batch of records to rows by table;
//! - `loader`: the loop.

mod loader;
mod prepare;
mod row;
mod scan;
mod table;

pub(crate) use loader::RecordLoader;
