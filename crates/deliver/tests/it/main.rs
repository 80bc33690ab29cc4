//! The stage against a broker and a receiver on the loopback: the embedded broker, or the Kafka that
//! `KAFKA_BROKERS` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod delivery;
mod failures;
mod isolation;
mod members;
mod receiver;
mod resend;
mod restarts;
mod stack;
