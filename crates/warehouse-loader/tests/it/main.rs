//! The loader against a real broker and a real warehouse: the embedded broker and a lake in a folder.
//! `integration-tests` kills the process itself; here its futures are dropped, which is the same to a
//! lake, and a warehouse that is away or answers late is played by a wrapper around the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod around;
mod balance;
mod events;
mod faults;
mod jobs;
mod left_out;
mod messages;
mod planted;
mod rebuild;
mod rebuild_ends;
mod records;
mod runs;
mod stack;
mod watched;
