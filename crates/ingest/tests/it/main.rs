//! The stage over real HTTP, before a real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod any_body;
mod away;
mod blocking;
mod browsers;
mod corpus;
mod cors;
mod drain;
mod forget;
mod geo;
mod internal;
mod limits;
mod mmdb;
mod oracle;
mod people;
mod requests;
mod routes;
mod sdk_config;
mod segment;
mod smuggling;
mod stack;
mod tls;
mod webhook;
mod wire;
