//! Ids of loaded messages as warehouses keep them: sorted runs, each with a [`Sieve`] in memory that tells nearly
//! every new id without reading the run, and where in the run any other must lie. What a load reads and writes
//! then depends on its own size, not on how many ids there are (ADR 0009).
//!
//! Where runs are stored and when several become one is each warehouse's own business.

mod run;
mod sieve;
mod slices;

pub use run::{MAX_RECORDS, RECORD, SortedRun, find};
pub use sieve::Sieve;
pub use slices::{Slice, answer, slices};
