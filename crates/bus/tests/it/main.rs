//! The bus against brokers: the embedded one, and the Kafka that `KAFKA_BROKERS` names
//! (`integration-tests/servers/kafka.sh` provides one).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod cluster;
mod consume;
mod follow;
mod foreign;
mod group;
mod messages;
mod provision;
mod publish;
mod reader;
