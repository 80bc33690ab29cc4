//! The stage against the embedded broker, reading a scripted source.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

mod attempts;
mod river;
