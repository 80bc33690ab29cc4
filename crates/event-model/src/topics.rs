//! The map of the river: every topic, in the order things flow.
//!
//! Provisioning, `deploy/kafka/topics.yaml` and `docs/topics.md` come from this list; golden tests hold
//! them equal. To grow a topic's partitions, raise its version: the new one is drained into, then
//! switched to, since more partitions would move keys and break their order.

use std::marker::PhantomData;

use crate::{AuditEntry, Change, Control, DeadLetter, Event, Lane, Outcome, Progress, Record, Workspace};

/// Events of users. Written by ingest; read by warehouse-loader and deliver.
/// Seven days: a warehouse or destination may be away over a long weekend and still catch up.
pub const EVENTS: Topic<Event> = Topic::new("events", 12, Cleanup::Delete { days: 7 }).per_lane().personal();

/// Rows of ELT streams and their barriers. Written by extract; read by warehouse-loader.
/// Seven days, as events: afterwards the source can be read again.
pub const RECORDS: Topic<Record> =
    Topic::new("records", 6, Cleanup::Delete { days: 7 }).per_lane().personal();

/// Changes of reverse ETL. Written by reverse-etl; read by deliver.
/// Seven days: what has not been delivered by then comes back through a new diff.
pub const CHANGES: Topic<Change> = Topic::new("changes", 6, Cleanup::Delete { days: 7 }).personal();

/// What became of each item. Written by deliver; read by reverse-etl and the tools.
/// Thirty days: a sync that runs monthly still finds the outcomes of its last run.
pub const OUTCOMES: Topic<Outcome> = Topic::new("outcomes", 6, Cleanup::Delete { days: 30 });

/// How far each destination has got. Written and read by deliver.
/// Compacted: only the last word of each partition counts.
pub const PROGRESS: Topic<Progress> = Topic::new("progress", 1, Cleanup::Compact);

/// Items that could not be processed, with their reason. Written by every consumer; read by the tools.
/// Thirty days: time to mend a mapping and replay.
pub const DEAD_LETTERS: Topic<DeadLetter> =
    Topic::new("dead-letters", 3, Cleanup::Delete { days: 30 }).personal();

/// What operators and stages did. Written by every stage; read by auditors.
/// 400 days: an audit period of a year and its review.
pub const AUDIT: Topic<AuditEntry> = Topic::new("audit", 1, Cleanup::Delete { days: 400 });

/// The present word of the operators. Written by the tools; read by every stage.
/// Compacted: a stage that starts reads it all. Suppressed users stand in it as keyed hashes.
pub const CONTROL: Topic<Control> = Topic::new("control", 1, Cleanup::Compact);

/// All of them, in the same order.
pub const ALL: [TopicSpec; 8] = [
    EVENTS.spec,
    RECORDS.spec,
    CHANGES.spec,
    OUTCOMES.spec,
    PROGRESS.spec,
    DEAD_LETTERS.spec,
    AUDIT.spec,
    CONTROL.spec,
];

/// When Kafka forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// After this many days.
    Delete {
        /// Counted from the broker's append time.
        days: u32,
    },
    /// All but the last record of each key.
    Compact,
}

/// What a topic is, apart from what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSpec {
    /// The middle of the full name.
    pub name: &'static str,
    /// Part of the full name from 2 on.
    pub version: u16,
    /// Fixed for a version.
    pub partitions: i32,
    /// When Kafka forgets.
    pub cleanup: Cleanup,
    /// Whether sources may have one of their own.
    pub per_lane: bool,
    /// Whether it may hold personal data (masked or sealed as the policy says): who may read it is then
    /// an auditor's question.
    pub personal: bool,
}

/// A topic and the type of its messages. All topics use the broker's append time, so that retention
/// cannot be fooled by a client's clock.
#[derive(Debug)]
pub struct Topic<M> {
    /// What it is.
    pub spec: TopicSpec,
    carries: PhantomData<fn() -> M>,
}

impl<M> Topic<M> {
    const fn new(name: &'static str, partitions: i32, cleanup: Cleanup) -> Self {
        let spec = TopicSpec { name, version: 1, partitions, cleanup, per_lane: false, personal: false };
        Self { spec, carries: PhantomData }
    }

    const fn per_lane(mut self) -> Self {
        self.spec.per_lane = true;
        self
    }

    const fn personal(mut self) -> Self {
        self.spec.personal = true;
        self
    }

    /// The topic of a workspace, for topics without lanes.
    #[must_use]
    pub fn of(&self, workspace: &Workspace) -> TopicName<M> {
        TopicName::new(self.spec.full_name(workspace, None), self.spec)
    }

    /// The topic of a workspace and lane.
    #[must_use]
    pub fn lane(&self, workspace: &Workspace, lane: &Lane) -> TopicName<M> {
        TopicName::new(self.spec.full_name(workspace, Some(lane)), self.spec)
    }
}

impl TopicSpec {
    /// `<workspace>.<name>[.<lane>][.v<version>]`.
    #[must_use]
    pub fn full_name(&self, workspace: &Workspace, lane: Option<&Lane>) -> String {
        let lane = lane.filter(|_| self.per_lane).map_or(String::new(), |lane| format!(".{lane}"));
        let version = if self.version > 1 { format!(".v{}", self.version) } else { String::new() };
        format!("{workspace}.{}{lane}{version}", self.name)
    }

    /// The topic's settings, in Kafka's names, sorted.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![("message.timestamp.type", "LogAppendTime".to_owned())];
        match self.cleanup {
            Cleanup::Delete { days } => {
                settings.push(("cleanup.policy", "delete".to_owned()));
                settings.push(("retention.ms", (u64::from(days) * 86_400_000).to_string()));
            }
            Cleanup::Compact => {
                settings.push(("cleanup.policy", "compact".to_owned()));
                settings.push(("segment.ms", COMPACTED_SEGMENT_MS.to_string()));
            }
        }
        // An event is at most 900 KiB; the rest is for headers and the record's frame.
        settings.push(("max.message.bytes", MAX_MESSAGE_BYTES.to_string()));
        settings.sort_unstable();
        settings
    }
}

/// Kafka compacts closed segments only and keeps one open for a week by default: whoever reads all of a
/// compacted topic would read a week of it.
const COMPACTED_SEGMENT_MS: u64 = 3_600_000;

/// The largest Kafka record: Kafka's own default of 1 MiB and 12 bytes.
pub const MAX_MESSAGE_BYTES: usize = 1_048_588;

/// The largest event body. Larger gets 413 at the door.
pub const MAX_EVENT_BYTES: usize = 900 * 1024;

/// A topic's full name, and what it carries.
#[derive(Debug)]
pub struct TopicName<M> {
    name: String,
    spec: TopicSpec,
    carries: PhantomData<fn() -> M>,
}

impl<M> Clone for TopicName<M> {
    fn clone(&self) -> Self {
        Self::new(self.name.clone(), self.spec)
    }
}

impl<M> TopicName<M> {
    fn new(name: String, spec: TopicSpec) -> Self {
        Self { name, spec, carries: PhantomData }
    }

    /// The full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What it is.
    #[must_use]
    pub fn spec(&self) -> &TopicSpec {
        &self.spec
    }
}
