//! The journeys: the built binary and real servers, driven from outside; and checks of the tree itself.
//!
//! Each test starts what it needs on free ports and stops it. Servers come from variables that `./test`
//! sets; without them those tests say SKIPPED and why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod bad_input;
mod broker_outage;
mod commands;
mod connectors;
mod contents;
mod crash_points;
mod dead_letters;
mod demo;
mod dev_survives_sigkill;
mod dice;
mod edge;
mod elt;
mod event_semantics;
mod http;
mod kafka;
mod kept;
mod kill_deliver;
mod kill_ingest;
mod kill_loader;
mod kill_postgres;
mod left_out;
mod load;
#[path = "../../../crates/ingest/tests/it/mmdb.rs"]
mod mmdb;
mod postgres;
mod postgres_server;
mod real_clients;
mod rebuild;
mod river;
mod sample;
mod separate_stages;
mod stack;
mod tap;
mod tidy;
mod track_to_warehouse;
mod two_loaders;
mod wire;
