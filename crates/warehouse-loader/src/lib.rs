//! Events and records from Kafka into warehouses and lakes, exactly once.
//!
//! `plan` is the heart: what a batch asks of a warehouse, decided without touching it.

mod books;
mod dedup;
mod discards;
mod plan;
mod reduce;
pub mod rows;

pub use books::Books;
pub use dedup::{Sighting, distinct_ids, judge, seen_id};
pub use plan::{Plan, PlanError, RowsByTable, Stamp, TableRows, plan};
