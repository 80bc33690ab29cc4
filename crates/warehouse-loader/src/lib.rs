//! Events and records from Kafka into warehouses and lakes, each item once.
//!
//! ```text
//!  lease ─▶ resume ─▶ ┌ poll ─▶ leave out what was seen ─▶ rows ─▶ plan ─┬▶ load
//!                     └───────────────── meanwhile ◀────────────────────┘
//! ```
//! A connection is loaded by one process at a time: [`Service`] holds its lease and acts under its epoch.
//! Positions, seen ids and counts are made durable by the warehouse together with the rows, so the loader
//! itself remembers nothing: whatever a crash leaves, `resume` says where to go on.
//!
//! The decisions are pure and stand in files of their own: [`rows`] (an event to rows), `records` (which
//! rows of an ELT source are real, and what they are), [`plan()`] (what a batch asks of the warehouse, the
//! heart), `dedup` (which messages were seen), `books` (how each item ended). `session` has the steps in
//! their order and `flight` the one load that is on its way, `connection` the life around them, `runs` what is
//! told of it afterwards.
//!
//! Invariants: no item is skipped without a count. The same ranges give the same rows. Nothing here knows
//! a warehouse by its kind.

mod balance;
mod books;
mod connection;
mod dead_letters;
mod dedup;
mod digits;
mod discards;
mod drift;
mod error;
mod events;
mod flight;
mod gather;
mod jobs;
mod keeper;
mod metrics;
mod options;
mod plan;
mod position;
mod preview;
mod records;
mod report;
pub mod rows;
mod runs;
mod service;
mod session;
mod stand_back;
mod start;

pub use balance::{BalanceLine, Verdict, balance};
pub use error::{Error, NextStep};
pub use jobs::{JobOutcome, JobProgress, JobRequest, RebuildOutcome, RebuildRequest};
pub use millrace_bus::Start;
pub use millrace_service::config::{Contract, RowMode};
pub use millrace_transform::Filter;
pub use options::{ConnectionOptions, Kind, LoadLimits, Options, Timing};
pub use plan::{Plan, PlanError, RowsByTable, Rules, Stamp, TableBatches, TableRows, plan};
pub use position::Gap;
pub use preview::preview_rows;
pub use report::Report;
pub use runs::{JobKind, NextAttempt, RunError, RunId, RunRecord, RunState, run_log};
pub use service::{Run, Service};
