//! The stage over real HTTP, before a real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod away;
mod browsers;
mod corpus;
mod cors;
mod internal;
mod requests;
mod routes;
mod sdk_config;
mod segment;
mod stack;
mod webhook;
