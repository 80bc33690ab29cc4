//! What to read of a run to know which ids of a batch are in it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::run::{RECORD, find};
use super::sieve::Sieve;

/// Records that are read at once at most, so that answers stay small.
const MAX_SLICE: usize = 1 << 16;

/// Records of a run to be read, and the ids that may be among them, by their places in the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Which records.
    pub records: Range<usize>,
    /// Places of ids in the batch.
    pub ids: Vec<usize>,
}

impl Slice {
    /// Where the records lie among the bytes of the run.
    #[must_use]
    pub fn bytes(&self) -> Range<usize> {
        self.records.start * RECORD..self.records.end * RECORD
    }
}

/// The slices of a run that its sieve does not rule out, in the order of its records.
#[must_use]
pub fn slices(sieve: &Sieve, ids: &[u128]) -> Vec<Slice> {
    let mut places: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, id) in ids.iter().enumerate() {
        if let Some(place) = sieve.place(*id) {
            places.entry((place.start, place.end)).or_default().push(index);
        }
    }
    let mut slices: Vec<Slice> = Vec::new();
    for ((start, end), ids) in places {
        match slices.last_mut() {
            // What lies side by side is read at once.
            Some(last) if start <= last.records.end && end - last.records.start <= MAX_SLICE => {
                last.records.end = end.max(last.records.end);
                last.ids.extend(ids);
            }
            _ => slices.push(Slice { records: start..end, ids }),
        }
    }
    slices
}

/// Notes in `found` what the records of a slice say of its ids. `ids` and `found` are those of the batch.
pub fn answer(slice: &Slice, records: &[u8], ids: &[u128], found: &mut [Option<u64>]) {
    for index in &slice.ids {
        let (Some(id), Some(known)) = (ids.get(*index), found.get_mut(*index)) else { continue };
        *known = known.or_else(|| find(records, *id));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::super::run::SortedRun;
    use super::*;
    use crate::SeenId;

    proptest! {
        #[test]
        fn slices_hold_every_id_of_the_run_and_answer_no_other(
            stored in btree_map(0_u128..2_000, any::<u64>(), 0..600),
            asked in vec(0_u128..2_500, 0..300),
            filter in any::<bool>(),
        ) {
            // Spread as hashes are, by the first half.
            let ids = stored.iter().map(|(id, content)| SeenId { id: id << 110, content: *content }).collect();
            let run = SortedRun::of(ids);
            let sieve = Sieve::of(&run);
            let sieve = if filter { sieve } else { sieve.without_filter() };
            let batch: Vec<u128> = asked.iter().map(|id| id << 110).collect();
            let mut found = vec![None; batch.len()];
            let slices = slices(&sieve, &batch);
            prop_assert!(slices.is_sorted_by(|a, b| a.records.end < b.records.end));
            for slice in slices {
                answer(&slice, run.as_bytes().get(slice.bytes()).unwrap(), &batch, &mut found);
            }
            let expected: Vec<_> = asked.iter().map(|id| stored.get(id).copied()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
