//! What is kept outside of the code and must agree with it: wire samples, and the pages about topics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod any_record;
mod corpus;
mod golden;
mod round_trip;
mod samples;
mod topics_doc;
mod wire;
