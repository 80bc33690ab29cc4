//! Finishing what a killed attempt left: pure decisions over the barriers that stand in the topic.

use std::collections::{BTreeMap, BTreeSet};

use millrace_event_model::{AttemptId, Barrier, Record, RecordBody};

/// What stands in the topic behind the cursor.
#[derive(Debug, Default)]
pub struct Behind {
    /// The newest attempt on each partition.
    newest: BTreeMap<i32, AttemptId>,
    /// The barriers that the cursor may not know, by number and attempt.
    barriers: BTreeMap<(u64, AttemptId), Found>,
}

#[derive(Debug)]
struct Found {
    barrier: Barrier,
    /// The offset behind it, by partition.
    after: BTreeMap<i32, i64>,
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

impl Behind {
    /// Takes note of a record of the source; those of a partition come in order.
    pub fn observe(&mut self, partition: i32, offset: i64, record: Record) {
        let newest = self.newest.entry(partition).or_insert(record.attempt);
        *newest = record.attempt.max(*newest);
        // For the loader, the rows before a barrier that comes after a newer attempt are void: its writer
        // had lost the lease and not noticed yet.
        if record.attempt < *newest {
            return;
        }
        if let RecordBody::Barrier(barrier) = record.body {
            let id = (barrier.number, record.attempt);
            let found = self
                .barriers
                .entry(id)
                .or_insert_with(|| Found { barrier: *barrier, after: BTreeMap::new() });
            // A repetition stands later; looking from behind the first one finds it again, harmlessly.
            found.after.entry(partition).or_insert(offset + 1);
        }
    }

    /// The barriers later than number `stored`, in order. All but the last must stand everywhere, since an
    /// attempt writes the next only when one is acked on all partitions; finishing each in order is right
    /// even if that were not so.
    ///
    /// A barrier that lacks on a partition where a newer attempt has begun cannot be finished: the rows
    /// before it are void there, and storing its state would lose them. The newer attempt began without it
    /// and has read them again.
    #[must_use]
    pub fn unfinished(&self, stored: u64, partitions: i32) -> Vec<Unfinished> {
        let mut unfinished = Vec::new();
        for ((number, attempt), found) in &self.barriers {
            let missing: BTreeSet<i32> =
                (0..partitions).filter(|partition| !found.after.contains_key(partition)).collect();
            let overtaken = |partition| self.newest.get(partition).is_some_and(|newest| newest > attempt);
            if *number <= stored || missing.iter().any(overtaken) {
                continue;
            }
            let (barrier, after) = (found.barrier.clone(), found.after.clone());
            unfinished.push(Unfinished { attempt: *attempt, barrier, after, missing });
        }
        unfinished
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use chrono::DateTime;
    use millrace_event_model::PartitionKey;

    use super::*;

    /// Barriers `(number, attempt, partition, offset)`; number 0 is a beginning.
    fn behind(records: &[(u64, u64, i32, i64)]) -> Behind {
        let mut behind = Behind::default();
        for (number, attempt, partition, offset) in records {
            let barrier = Barrier { number: *number, streams: Vec::new(), state: None, complete: false };
            let record = Record {
                source: "crm".parse().unwrap(),
                attempt: AttemptId(*attempt),
                emitted_at: DateTime::UNIX_EPOCH,
                key: PartitionKey([0; 16]),
                body: match number {
                    0 => RecordBody::Begin,
                    _ => RecordBody::Barrier(Box::new(barrier)),
                },
            };
            behind.observe(*partition, *offset, record);
        }
        behind
    }

    /// Number and attempt of each, and where it lacks.
    fn told(unfinished: &[Unfinished]) -> Vec<(u64, u64, Vec<i32>)> {
        let told = |one: &Unfinished| {
            (one.barrier.number, one.attempt.0, one.missing.iter().copied().collect::<Vec<_>>())
        };
        unfinished.iter().map(told).collect()
    }

    #[test]
    fn what_the_cursor_knows_is_left_alone() {
        assert_eq!(behind(&[(7, 4, 0, 2), (6, 4, 1, 1)]).unfinished(7, 2), []);
    }

    #[test]
    fn a_half_written_barrier_is_finished_where_it_lacks() {
        let left = behind(&[(8, 4, 1, 11)]).unfinished(7, 3);
        assert_eq!(told(&left), [(8, 4, vec![0, 2])]);
        assert_eq!(left[0].after, BTreeMap::from([(1, 12)]));
    }

    #[test]
    fn barriers_are_finished_in_order() {
        let left = behind(&[(1, 4, 0, 4), (2, 4, 0, 8), (2, 4, 0, 29)]).unfinished(0, 1);
        assert_eq!(told(&left), [(1, 4, vec![]), (2, 4, vec![])]);
        assert_eq!(left[1].after, BTreeMap::from([(0, 9)]), "the first of two repetitions");
    }

    #[test]
    fn a_barrier_whose_rows_a_newer_attempt_made_void_does_not_count() {
        assert_eq!(behind(&[(0, 5, 0, 1), (8, 4, 0, 2)]).unfinished(7, 1), []);
        let on_one_in_time = behind(&[(8, 4, 0, 1), (0, 5, 0, 2), (0, 5, 1, 1), (8, 4, 1, 2)]);
        assert_eq!(on_one_in_time.unfinished(7, 2), []);
    }

    #[test]
    fn two_attempts_at_one_number_are_told_apart() {
        let both = behind(&[(0, 5, 0, 1), (0, 5, 1, 1), (8, 4, 0, 2), (8, 4, 1, 2), (8, 5, 0, 3)]);
        assert_eq!(told(&both.unfinished(7, 2)), [(8, 5, vec![1])]);
    }
}
