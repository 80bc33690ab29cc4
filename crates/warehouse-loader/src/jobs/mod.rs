//! Jobs: loading a past range of a connection's topic, beside what comes in.
//!
//! A **replay** loads again what the connection has loaded, with today's `when` and mapping; a **backfill** loads
//! what came before the connection began; a **rebuild** makes its tables anew. All go through the loader itself, as a
//! connection of their own, `<connection>@<job>`: lease, positions, seen ids and books are apart, so the live
//! connection goes on. Rows of events that a replay or a backfill loads are merged by `id`, whatever the connection's
//! mode, so nothing is doubled.
//!
//! A job never reaches beyond the position of its connection, or the live loader would add the same event again
//! in append mode. Its range is resolved once and kept; called again after a crash, it goes on where it stopped.
//! When it is done all that is kept of it is forgotten. Whoever dies in between does a part of it again, which
//! merging by `id` makes harmless; what makes it harmless for a rebuild stands there.

mod range;
mod rebuild;
mod run;

pub(crate) use range::Bound;
pub use rebuild::{RebuildOutcome, RebuildRequest};
pub use run::{JobOutcome, JobProgress, JobRequest};
