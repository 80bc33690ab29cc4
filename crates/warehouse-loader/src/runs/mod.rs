//! Runs: what the loader did, for the person who asks afterwards.
//!
//! A run is what a connection did after one wake-up: all that `load --once`, a time of a cron schedule or a job
//! loaded; or, of a connection on an interval, what it loaded within a minute, since it may load every two
//! seconds for ever. Where there was nothing to load there is no run. A failure is a run too, with the statement
//! that failed and what happens next; the same failure again and again is one run with a number of attempts.
//!
//! `tracker` decides, `writer` writes to a [`millrace_state::RunLog`] beside the loads: a state that is slow or
//! away delays no load, and then a run is missing in the log. The log is for people; the proof of what was
//! loaded are the books, which the warehouse commits with the rows.

mod record;
mod tracker;
mod writer;

pub use record::{JobKind, NextAttempt, RunError, RunId, RunRecord, RunState, run_log};
pub(crate) use tracker::{About, Loaded};
pub(crate) use writer::Runs;
