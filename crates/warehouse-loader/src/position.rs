//! Positions: where a connection begins, and what retention took before it was read. Pure.

use std::fmt;

use millrace_bus::{Range, Received, Watermarks};
use millrace_connector::{OffsetRange, Positions};

/// Offsets that are gone unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The topic.
    pub topic: String,
    /// What is gone, by partition.
    pub ranges: Vec<OffsetRange>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "retention removed {} items of {} before they were read:", self.items(), self.topic)?;
        for range in &self.ranges {
            write!(f, " partition {} from {} to {}", range.partition, range.start, range.end)?;
        }
        Ok(())
    }
}

impl Gap {
    /// How many offsets are gone. Those of other sources on the same lane are among them: nobody can tell
    /// them apart any more.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.ranges.iter().map(|range| u64::try_from(range.end - range.start).unwrap_or(0)).sum()
    }

    /// What lies between the positions and what is still there; `None` where nothing is gone.
    #[must_use]
    pub(crate) fn before(topic: &str, positions: &Positions, watermarks: &Watermarks) -> Option<Self> {
        let gone = |(partition, (low, _)): (&i32, &(i64, i64))| {
            let start = *positions.get(partition)?;
            (start < *low).then_some(OffsetRange { partition: *partition, start, end: *low })
        };
        Self::of(topic, watermarks.iter().filter_map(gone).collect())
    }

    /// The part of these ranges that is gone.
    #[must_use]
    pub(crate) fn within(topic: &str, ranges: &[OffsetRange], watermarks: &Watermarks) -> Option<Self> {
        let gone = |range: &OffsetRange| {
            let low = watermarks.get(&range.partition).map_or(range.start, |(low, _)| *low);
            let end = low.min(range.end);
            (range.start < end).then_some(OffsetRange { end, ..*range })
        };
        Self::of(topic, ranges.iter().filter_map(gone).collect())
    }

    fn of(topic: &str, ranges: Vec<OffsetRange>) -> Option<Self> {
        (!ranges.is_empty()).then(|| Self { topic: topic.to_owned(), ranges })
    }

    /// The ranges without what is gone.
    #[must_use]
    pub(crate) fn cut_from(&self, ranges: &[OffsetRange]) -> Vec<OffsetRange> {
        let kept = |range: &OffsetRange| {
            let gone = self.ranges.iter().find(|gone| gone.partition == range.partition);
            OffsetRange { start: gone.map_or(range.start, |gone| gone.end), ..*range }
        };
        ranges.iter().map(kept).filter(|range| range.start < range.end).collect()
    }
}

/// The stored positions, and where there are none, those where the connection began.
pub(crate) fn complete(stored: &Positions, began: &Positions) -> Positions {
    let mut positions = began.clone();
    positions.extend(stored);
    positions
}

/// The positions after ranges that follow them.
pub(crate) fn after(positions: &Positions, ranges: &[OffsetRange]) -> Positions {
    let mut after = positions.clone();
    after.extend(ranges.iter().map(|range| (range.partition, range.end)));
    after
}

/// Records with their places, in the order of the log: partition by partition, each in its own order. The
/// partitions' turns in a batch are the network's; done again, the order must be the same.
pub(crate) fn in_log_order<M>(records: &[Received<M>]) -> impl Iterator<Item = (usize, &Received<M>)> {
    let mut ordered: Vec<(usize, &Received<M>)> = records.iter().enumerate().collect();
    // Stable.
    ordered.sort_by_key(|(_, record)| record.partition);
    ordered.into_iter()
}

/// Adds ranges that follow those that are there, partition by partition.
pub(crate) fn extend(ranges: &mut Vec<OffsetRange>, later: &[OffsetRange]) {
    for range in later {
        match ranges.iter_mut().find(|own| own.partition == range.partition) {
            Some(own) => own.end = range.end,
            None => ranges.push(*range),
        }
    }
    ranges.sort_by_key(|range| range.partition);
}

/// The ranges from positions to later ones; partitions that do not move are left out.
pub(crate) fn between(from: &Positions, until: &Positions) -> Vec<OffsetRange> {
    let range = |(partition, end): (&i32, &i64)| {
        let start = *from.get(partition)?;
        (start < *end).then_some(OffsetRange { partition: *partition, start, end: *end })
    };
    until.iter().filter_map(range).collect()
}

/// Whether the positions are at or behind a target in each of its partitions.
pub(crate) fn reached(positions: &Positions, target: &Positions) -> bool {
    target.iter().all(|(partition, end)| positions.get(partition).is_some_and(|next| next >= end))
}

/// As the warehouse stores them.
pub(crate) fn stored_ranges(ranges: &[Range]) -> Vec<OffsetRange> {
    let stored =
        |range: &Range| OffsetRange { partition: range.partition, start: range.start, end: range.end };
    ranges.iter().map(stored).collect()
}

/// As the bus reads them.
pub(crate) fn readable_ranges(ranges: &[OffsetRange]) -> Vec<Range> {
    ranges.iter().map(|range| Range::stored(range.partition, range.start, range.end)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn range(partition: i32, start: i64, end: i64) -> OffsetRange {
        OffsetRange { partition, start, end }
    }

    #[test]
    fn a_gap_is_what_retention_took_behind_a_position() {
        let watermarks = Watermarks::from([(0, (10, 20)), (1, (0, 5))]);
        let gap = Gap::before("t", &Positions::from([(0, 4), (1, 2)]), &watermarks).unwrap();
        assert_eq!(gap.ranges, [range(0, 4, 10)]);
        assert_eq!(gap.items(), 6);
        let text = "retention removed 6 items of t before they were read: partition 0 from 4 to 10";
        assert_eq!(gap.to_string(), text);
        assert_eq!(Gap::before("t", &Positions::from([(0, 10), (1, 2)]), &watermarks), None);
    }

    #[test]
    fn a_load_that_is_done_again_reads_what_is_left_of_it() {
        let watermarks = Watermarks::from([(0, (10, 20)), (1, (8, 9))]);
        let ranges = [range(0, 4, 12), range(1, 2, 5)];
        let gap = Gap::within("t", &ranges, &watermarks).unwrap();
        assert_eq!(gap.ranges, [range(0, 4, 10), range(1, 2, 5)]);
        assert_eq!(gap.cut_from(&ranges), [range(0, 10, 12)]);
        assert_eq!(Gap::within("t", &[range(0, 10, 12)], &watermarks), None);
    }

    #[test]
    fn ranges_that_follow_each_other_are_one() {
        let mut ranges = vec![range(1, 0, 4)];
        extend(&mut ranges, &[range(0, 7, 8), range(1, 4, 9)]);
        assert_eq!(ranges, [range(0, 7, 8), range(1, 0, 9)]);
    }

    #[test]
    fn positions_add_up() {
        let stored = Positions::from([(0, 7)]);
        let began = Positions::from([(0, 1), (1, 2)]);
        let positions = complete(&stored, &began);
        assert_eq!(positions, Positions::from([(0, 7), (1, 2)]));
        let next = after(&positions, &[range(1, 2, 9)]);
        assert_eq!(next, Positions::from([(0, 7), (1, 9)]));
        assert_eq!(between(&positions, &next), [range(1, 2, 9)]);
        assert!(reached(&next, &Positions::from([(1, 9)])));
        assert!(!reached(&positions, &next));
    }
}
