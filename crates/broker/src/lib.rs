//! The embedded broker: Kafka's protocol on one machine without Kafka.
//!
//! [`EmbeddedBroker::start`] opens a data folder and answers on a loopback port; [`EmbeddedBroker::stop`]
//! closes it. Nothing else in the tree knows which broker this is, and everything that talks to it does
//! so as to any Kafka: over TCP, by `bus`.
//!
//! What it promises: an acked event and a committed offset survive the end of the process, SIGKILL
//! included (`sigkill_in_the_middle_of_a_produce_loses_nothing_acked`). A power cut may take the last
//! moments, since SQLite syncs its log at checkpoints and not at each commit. One process at a time opens
//! a folder. What it does without is in `docs/adr/0002-the-embedded-broker.md`.

mod embedded;
mod error;
mod folder;

pub use embedded::EmbeddedBroker;
pub use error::BrokerError;
