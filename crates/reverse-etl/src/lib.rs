//! Reverse ETL: runs a SQL model in a warehouse, finds which rows are new, changed or gone since the last
//! run, and publishes those as changes. It sends nothing to anybody: `deliver` does, and answers with
//! outcomes, which the next run reads.
//!
//! What the destination has is kept as a *snapshot* in the state store: for each row the hash of its key,
//! the hash of its mapped output, and whether that is certain. The new snapshot is the old one plus
//! definite outcomes, never what was extracted: a row whose delivery is not certain is sent again, and one
//! that was rejected comes back with the next diff. [`run`](mod@run) tells a run as a timeline, with what a
//! crash leaves behind at each point.
//!
//! Memory does not grow with the model: rows are spilled to files by the first byte of their key's hash,
//! and each of these shards is sorted and merged with the snapshot's by itself
//! (`examples/memory.rs` measures it).
//!
//! Reading order: `diff` is the pure heart, `run` the order of things, `service` the clock around it.

mod diff;
mod error;
mod metrics;
mod options;
mod outcomes;
mod publish;
mod row;
mod run;
mod service;
mod shard;
mod snapshot;
mod spill;

pub use error::Error;
pub use options::{Mode, Options, Sync, Trigger};
pub use run::RunReport;
pub use service::Service;
