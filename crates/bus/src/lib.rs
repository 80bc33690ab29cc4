//! Typed publish and consume over Kafka.
//!
//! This is the only crate that knows the Kafka client. A stage publishes messages to typed topics with a
//! [`Publisher`] (to topics of others with a [`ForeignPublisher`]), and reads them in one of four ways: a [`Reader`] is assigned all partitions of a topic
//! by hand and keeps its positions elsewhere (the loader); a [`GroupReader`] shares a topic with the other
//! members of a consumer group (deliver); a [`Follower`] hears all words of a compacted topic (control);
//! [`Bus::read_all`] reads what is there now (tools). [`consume`] is the one loop in which positions follow what is durable, and its text is the
//! delivery guarantee.
//!
//! Invariants: whatever [`Publisher::publish`] reports as acked is on all in-sync replicas. No consumer
//! skips silently: a position that retention overtook is [`BusError::OffsetGone`]. Ranges to commit come
//! only out of a batch. Kafka transactions are not used.

mod batch;
mod buffer;
mod client;
mod config;
pub mod consume;
mod error;
mod follow;
mod foreign;
mod group;
mod member;
mod provision;
mod publish;
mod reader;
mod settings;

pub use batch::{Batch, BatchLimits, Positions, Range, Received, Start};
pub use client::{Bus, Identity, Watermarks};
pub use consume::{Consume, Resume};
pub use error::{BusError, ErrorKind};
pub use follow::Follower;
pub use foreign::{ForeignPublisher, ForeignRecord};
pub use group::{Assignment, GroupEvent, GroupOptions, GroupReader, Revocation};
pub use provision::ReplicationPolicy;
pub use publish::{Acked, Pending, Placed, Publisher, PublisherOptions};
pub use reader::Reader;
pub use settings::KafkaSettings;
pub use tokio_util::sync::CancellationToken;
