//! Where a job begins and ends. Pure.

use chrono::{DateTime, Utc};
use millrace_bus::{Batch, Positions, Range, Received, Watermarks};
use millrace_event_model::Event;
use serde::{Deserialize, Serialize};

use crate::runs::JobKind;

/// What is known of a topic and of the connection that reads it.
#[derive(Debug, Clone)]
pub(super) struct Known<'k> {
    pub(super) watermarks: &'k Watermarks,
    /// The first offsets that the job's time may be in. There are no last ones: an event that is sent on from
    /// another source keeps the time of its first receipt, and stands in Kafka much later.
    pub(super) first: &'k Positions,
    /// Where the connection began.
    pub(super) began: &'k Positions,
    /// How far it got.
    pub(super) next: &'k Positions,
}

/// Offsets to load, by partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobRange {
    pub(super) from: Positions,
    pub(super) until: Positions,
    /// Retention has taken a part of it, before it was asked for.
    pub(super) cut: bool,
}

impl JobRange {
    /// Every partition of the topic has a place in it, be it an empty one.
    pub(super) fn of(kind: JobKind, known: &Known<'_>) -> Self {
        let mut range = Self { from: Positions::new(), until: Positions::new(), cut: false };
        for (partition, (low, high)) in known.watermarks {
            let of = |positions: &Positions| positions.get(partition).copied();
            // A connection that has no place in a partition has loaded nothing of it.
            let began = of(known.began).unwrap_or(*low);
            let (lowest, highest) = match kind {
                JobKind::Replay => (began, of(known.next).unwrap_or(began)),
                JobKind::Backfill => (*low, began),
            };
            let until = highest.min(*high).max(*low);
            let from = of(known.first).unwrap_or(*low).max(lowest).max(*low).min(until);
            range.cut |= *low > 0 && of(known.first).is_some_and(|first| first <= *low) && from < until;
            range.from.insert(*partition, from);
            range.until.insert(*partition, until);
        }
        range
    }

    /// How many offsets it has.
    pub(super) fn offsets(&self) -> u64 {
        self.done(&self.until)
    }

    /// How many of them are below these positions.
    pub(super) fn done(&self, positions: &Positions) -> u64 {
        let of = |(partition, from): (&i32, &i64)| {
            let until = self.until.get(partition).copied().unwrap_or(*from);
            let at = positions.get(partition).copied().unwrap_or(*from);
            u64::try_from(at.min(until) - from).unwrap_or(0)
        };
        self.from.iter().map(of).sum()
    }
}

/// What keeps a loader within a job.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// Nothing is read from these offsets on.
    pub(crate) until: Positions,
    /// Only what was received in this time is loaded.
    pub(crate) received: std::ops::Range<DateTime<Utc>>,
}

impl Bound {
    /// Up to these offsets, of whatever time.
    pub(crate) fn until(until: Positions) -> Self {
        Self { until, received: DateTime::<Utc>::MIN_UTC..DateTime::<Utc>::MAX_UTC }
    }

    /// The batch without what is beyond.
    pub(crate) fn cut<M>(&self, mut batch: Batch<M>) -> Batch<M> {
        let end = |partition: i32| self.until.get(&partition).copied().unwrap_or_default();
        batch.records.retain(|record| record.offset < end(record.partition));
        let ranges = batch.ranges.iter().filter_map(|range| {
            let until = range.end.min(end(range.partition));
            (range.start < until).then(|| Range::stored(range.partition, range.start, until))
        });
        batch.ranges = ranges.collect();
        batch
    }

    /// Whether the record is of the job's time.
    pub(crate) fn takes(&self, record: &Received<Event>) -> bool {
        let at = record.message.as_ref().map_or(record.appended_at, |event| event.received_at);
        self.received.contains(&at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_replay_stays_within_what_is_loaded_and_a_backfill_before_it(
            marks in proptest::collection::btree_map(0_i32..3, (0_i64..20, 0_i64..40), 1..4),
            began in proptest::collection::btree_map(0_i32..3, 0_i64..60, 0..4),
            loaded in proptest::collection::btree_map(0_i32..3, 0_i64..30, 0..4),
            first in proptest::collection::btree_map(0_i32..3, 0_i64..60, 0..4),
        ) {
            let watermarks: Watermarks =
                marks.into_iter().map(|(partition, (low, more))| (partition, (low, low + more))).collect();
            let mut next = began.clone();
            for (partition, offsets) in loaded {
                if let Some(next) = next.get_mut(&partition) {
                    *next += offsets;
                }
            }
            let known = Known { watermarks: &watermarks, first: &first, began: &began, next: &next };
            let replay = JobRange::of(JobKind::Replay, &known);
            let backfill = JobRange::of(JobKind::Backfill, &known);
            for (partition, (low, high)) in &watermarks {
                for range in [&replay, &backfill] {
                    let (from, until) = (range.from[partition], range.until[partition]);
                    prop_assert!(*low <= from && from <= until && until <= *high, "{:?}", range);
                }
                let place = began.get(partition).copied().unwrap_or(*low);
                let got = next.get(partition).copied().unwrap_or(*low);
                if replay.from[partition] < replay.until[partition] {
                    prop_assert!(place <= replay.from[partition] && replay.until[partition] <= got);
                }
                if backfill.from[partition] < backfill.until[partition] {
                    prop_assert!(backfill.until[partition] <= place, "what is loaded is loaded once");
                }
            }
            prop_assert_eq!(replay.done(&replay.from), 0);
            prop_assert_eq!(replay.done(&replay.until), replay.offsets());
        }
    }

    #[test]
    fn what_retention_has_taken_of_a_job_is_noticed() {
        let watermarks = Watermarks::from([(0, (10, 50))]);
        let (began, next) = ([(0, 0)].into(), [(0, 40)].into());
        let range = |first: i64| {
            let first = [(0, first)].into();
            let known = Known { watermarks: &watermarks, first: &first, began: &began, next: &next };
            JobRange::of(JobKind::Replay, &known)
        };
        assert_eq!(range(10), JobRange { from: [(0, 10)].into(), until: [(0, 40)].into(), cut: true });
        assert_eq!(range(11), JobRange { from: [(0, 11)].into(), until: [(0, 40)].into(), cut: false });
        assert_eq!(range(45).offsets(), 0);
    }
}
