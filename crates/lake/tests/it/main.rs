//! The lake as its users meet it: real Delta tables in a folder of the test's own.
#![allow(clippy::print_stderr, reason = "figures for whoever measures")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod conformance;
mod crash;
mod jobs;
mod object_stores;
mod partitions;
mod plain;
mod protocol;
mod query;
mod readers;
mod rig;
mod schema;
mod seen;
mod speed;
mod upkeep;
mod writes;
