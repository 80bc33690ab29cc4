//! ELT in: reads sources on a schedule and publishes their rows, with barriers, to the records topic.
//!
//! ```text
//!  begin      rows of stream A     barrier 7       rows of A     barrier 8 (complete)    rows of B …
//!  ──┬──────────┬──┬──┬──────────────┬───────────────┬──┬──────────┬─────────────────────────► one partition
//! ```
//!
//! An attempt runs under a lease, whose epoch is the attempt's number. Streams are read one after the
//! other, so a state of one never has to answer for rows of another. When the source hands out a state:
//! all rows before it are acked, then a barrier that carries the state goes to every partition, then the
//! cursor is stored. What a crash leaves, in that order:
//!
//! 1. rows without a barrier: void. The next attempt's `begin` says so to the loader, and the next attempt
//!    reads them again (`a_source_that_dies_leaves_nothing_half_done`).
//! 2. a barrier on some partitions: the rows before it are acked, so the next attempt **finishes** it on
//!    the others before it begins ([`recover`](crate::recover)), and goes on from its state.
//! 3. a barrier on all partitions, cursor not stored: as 2, with nothing left to send.
//!
//! A lease cannot stop a reader that does not notice its loss: it was asleep, or a process of the same name
//! began beside it. So an attempt first stores the cursor again, under the number that the older one
//! would need next, and a barrier is put only after a renewal that follows the acks of its rows
//! (`a_reader_that_lost_its_lease_and_did_not_notice_changes_nothing`). What is left is a reader that falls
//! asleep between that renewal and the end of its barrier: rows before it may then be loaded twice where
//! they are appended (`a_barrier_whose_rows_a_newer_attempt_made_void_does_not_count`), and a full refresh
//! may be swapped in with a part of its rows, until the next one.
//!
//! So each row between two states is applied once, whatever **dies** when, and extract needs neither Kafka
//! transactions nor a merge by key for it.

mod attempt;
mod cursor;
mod error;
mod metrics;
mod options;
pub mod recover;
mod row;
mod service;

pub use cursor::{Cursor, StreamCursor};
pub use error::Error;
pub use options::{Options, SourceOptions};
pub use service::{RunReport, Service, StreamReport};
