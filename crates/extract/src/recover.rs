//! Finishing what a killed attempt left: pure decisions over the barriers that stand in the topic.

use std::collections::{BTreeMap, BTreeSet};

use millrace_event_model::{AttemptId, Barrier};

/// A barrier of the source, found behind the cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The partition it stands on.
    pub partition: i32,
    /// The offset behind it.
    pub after: i64,
    /// The attempt that wrote it.
    pub attempt: AttemptId,
    /// The barrier.
    pub barrier: Barrier,
}

/// A barrier that the cursor does not know yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    /// The attempt that wrote it: the rest of it is written in its name.
    pub attempt: AttemptId,
    /// The barrier.
    pub barrier: Barrier,
    /// Where it stands already: the offset behind it, by partition.
    pub after: BTreeMap<i32, i64>,
    /// Where it does not stand yet.
    pub missing: BTreeSet<i32>,
}

/// The barriers later than number `stored`, in order. All but the last must stand everywhere, since an
/// attempt writes the next only when one is acked on all partitions; finishing each in order is right
/// even if that were not so.
#[must_use]
pub fn unfinished(stored: u64, partitions: i32, found: &[Found]) -> Vec<Unfinished> {
    let mut by_number: BTreeMap<u64, Unfinished> = BTreeMap::new();
    for one in found.iter().filter(|one| one.barrier.number > stored) {
        let entry = by_number.entry(one.barrier.number).or_insert_with(|| Unfinished {
            attempt: one.attempt,
            barrier: one.barrier.clone(),
            after: BTreeMap::new(),
            missing: (0..partitions).collect(),
        });
        entry.missing.remove(&one.partition);
        // A repetition stands later; looking from behind the first one finds it again, harmlessly.
        entry.after.entry(one.partition).or_insert(one.after);
    }
    by_number.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(number: u64, partition: i32, after: i64) -> Found {
        let barrier = Barrier { number, streams: Vec::new(), state: None, complete: false };
        Found { partition, after, attempt: AttemptId(4), barrier }
    }

    #[test]
    fn what_the_cursor_knows_is_left_alone() {
        assert_eq!(unfinished(7, 2, &[found(7, 0, 3), found(6, 1, 2)]), Vec::new());
    }

    #[test]
    fn a_half_written_barrier_is_finished_where_it_lacks() {
        let left = unfinished(7, 3, &[found(8, 1, 12)]);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].missing, BTreeSet::from([0, 2]));
        assert_eq!(left[0].after, BTreeMap::from([(1, 12)]));
    }

    #[test]
    fn barriers_are_finished_in_order() {
        let left = unfinished(0, 1, &[found(2, 0, 9), found(1, 0, 5), found(2, 0, 30)]);
        let numbers: Vec<_> = left.iter().map(|one| one.barrier.number).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(left[1].after, BTreeMap::from([(0, 9)]), "the first of two repetitions");
    }
}
