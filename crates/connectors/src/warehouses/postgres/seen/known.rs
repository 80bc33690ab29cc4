//! What this process knows of a connection's runs, and what it has to ask the server.

use std::sync::Arc;

use chrono::NaiveDate;
use millrace_connector::seen::{Sieve, Slice, slices};

use super::compaction::Facts;

/// What the filters of one connection may take: 28 million ids, a million a day. The oldest runs go without
/// beyond that, and each id of a batch is then asked for in each of them: a load is slower, and as right.
pub(crate) const FILTER_BUDGET: usize = 64 << 20;

/// A run and its sieve.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) facts: Facts,
    pub(crate) sieve: Sieve,
}

/// All runs of a connection, in the order of days and numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Vec<Arc<Run>>);

/// What to read of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) run: i64,
    pub(crate) slice: Slice,
}

impl Known {
    pub(crate) fn new(mut runs: Vec<Arc<Run>>) -> Self {
        runs.sort_by_key(|run| (run.facts.day, run.facts.run));
        // A load that was committed while they were read is there twice.
        runs.dedup_by_key(|run| run.facts.run);
        let mut room = FILTER_BUDGET;
        for run in runs.iter_mut().rev() {
            match room.checked_sub(run.sieve.filter_size()) {
                Some(left) => room = left,
                None => *run = Arc::new(Run { facts: run.facts, sieve: run.sieve.without_filter() }),
            }
        }
        Self(runs)
    }

    /// The same after a load or a merge.
    pub(crate) fn with(&self, new: Run, gone: &[i64]) -> Self {
        let kept = self.0.iter().filter(|run| !gone.contains(&run.facts.run)).cloned();
        Self::new(kept.chain([Arc::new(new)]).collect())
    }

    /// The same without days before this one.
    pub(crate) fn since(&self, first: NaiveDate) -> Self {
        Self(self.0.iter().filter(|run| run.facts.day >= first).cloned().collect())
    }

    /// Whether there are days before this one.
    pub(crate) fn has_before(&self, first: NaiveDate) -> bool {
        self.0.first().is_some_and(|run| run.facts.day < first)
    }

    pub(crate) fn facts(&self) -> Vec<Facts> {
        self.0.iter().map(|run| run.facts).collect()
    }

    /// What to read to know which of these ids are in runs of `first_day` or later.
    pub(crate) fn questions(&self, ids: &[u128], first_day: NaiveDate) -> Vec<Question> {
        let runs = self.0.iter().filter(|run| run.facts.day >= first_day);
        runs.flat_map(|run| {
            let question = |slice| Question { run: run.facts.run, slice };
            slices(&run.sieve, ids).into_iter().map(question)
        })
        .collect()
    }
}

impl Question {
    /// As the server counts bytes of a value, from 1: where it begins, and how many.
    pub(crate) fn bytes(&self) -> (i32, i32) {
        // A run has 24 MB at most.
        let number = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let bytes = self.slice.bytes();
        (number(bytes.start).saturating_add(1), number(bytes.len()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use millrace_connector::SeenId;
    use millrace_connector::seen::{SortedRun, answer};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn day(number: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 1).unwrap() + chrono::Days::new(number)
    }

    proptest! {
        #[test]
        fn questions_and_answers_find_what_is_in_the_window(
            runs in vec((0_u64..4, btree_map(0_u128..2_000, any::<u64>(), 0..300)), 0..6),
            asked in vec(0_u128..2_500, 0..200),
            first in 0_u64..4,
            filters in any::<bool>(),
        ) {
            let mut stored = BTreeMap::new();
            let mut known = Vec::new();
            for (run, (number, ids)) in (0_i64..).zip(&runs) {
                // Spread as hashes are, by the first half.
                let ids: Vec<SeenId> =
                    ids.iter().map(|(id, content)| SeenId { id: id << 110, content: *content }).collect();
                let sorted = SortedRun::of(ids);
                let sieve = Sieve::of(&sorted);
                let sieve = if filters { sieve } else { sieve.without_filter() };
                let facts = Facts { run, day: day(*number), records: sorted.len() };
                known.push(Arc::new(Run { facts, sieve }));
                stored.insert(run, sorted);
            }
            let known = Known::new(known);
            let asked: Vec<u128> = asked.into_iter().map(|id| id << 110).collect();
            let mut found = vec![None; asked.len()];
            for question in known.questions(&asked, day(first)) {
                let (start, length) = question.bytes();
                let start = usize::try_from(start - 1).unwrap();
                let bytes = &stored[&question.run].as_bytes()[start..start + usize::try_from(length).unwrap()];
                answer(&question.slice, bytes, &asked, &mut found);
            }
            for (id, found) in asked.iter().zip(found) {
                let holds: Vec<u64> = runs
                    .iter()
                    .filter(|(number, _)| *number >= first)
                    .filter_map(|(_, ids)| ids.get(&(id >> 110)).copied())
                    .collect();
                prop_assert_eq!(found.is_some(), !holds.is_empty());
                prop_assert!(found.is_none_or(|content| holds.contains(&content)));
            }
        }
    }
}
