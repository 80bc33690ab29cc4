//! ELT: the rows of a source between its barriers, to rows of tables.
//!
//! - `scan`: which rows are real, by reading ahead;
//! - `table`, `row`, `value`: a stream's table, a row's cells, and one of them;
//! - `owners`: which stream a table is of;
//! - `prepare`: a batch of records to rows by table;
//! - `loader`: the loop.

mod loader;
mod owners;
mod prepare;
mod row;
mod scan;
mod table;
mod value;

pub(crate) use loader::RecordLoader;
