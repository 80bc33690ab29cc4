//! What the embedded broker promises: an acked event and a committed offset outlive the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod restart;
mod river;
mod sigkill;
