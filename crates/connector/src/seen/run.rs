//! Ids of one load as a sorted run of records, in memory as they are stored: 16 bytes of id and 8 of content,
//! big-endian, in the order of ids. A record is found by its place, so no index is needed to search a run.

use crate::SeenId;

/// Bytes of a record.
pub const RECORD: usize = 24;

/// A run is never made longer than this by merging: 24 MB, which a merge holds some four times over.
pub const MAX_RECORDS: usize = 1 << 20;

/// Records, sorted by id, no id twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortedRun(Vec<u8>);

impl SortedRun {
    /// Of several records with one id the first stays: it is the one that was loaded.
    #[must_use]
    pub fn of(mut ids: Vec<SeenId>) -> Self {
        // Stable, and quick where runs are sorted already.
        ids.sort_by_key(|seen| seen.id);
        ids.dedup_by_key(|seen| seen.id);
        let mut bytes = Vec::with_capacity(ids.len() * RECORD);
        for seen in ids {
            bytes.extend_from_slice(&seen.id.to_be_bytes());
            bytes.extend_from_slice(&seen.content.to_be_bytes());
        }
        Self(bytes)
    }

    /// As it was stored; what is left of a record at the end is none.
    #[must_use]
    pub fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The runs as one. They come in the order in which they were loaded.
    #[must_use]
    pub fn merge(runs: &[Self]) -> Self {
        let mut all = Vec::with_capacity(runs.iter().map(Self::len).sum());
        all.extend(runs.iter().flat_map(Self::records));
        Self::of(all)
    }

    /// Records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / RECORD
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As it is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its records, ascending by id.
    pub fn records(&self) -> impl Iterator<Item = SeenId> + '_ {
        self.0.as_chunks::<RECORD>().0.iter().map(record)
    }
}

fn record(bytes: &[u8; RECORD]) -> SeenId {
    let id = bytes.first_chunk().map_or(0, |id| u128::from_be_bytes(*id));
    let content = bytes.last_chunk().map_or(0, |content| u64::from_be_bytes(*content));
    SeenId { id, content }
}

/// The content of an id, where it is among these records.
#[must_use]
pub fn find(records: &[u8], id: u128) -> Option<u64> {
    let records = records.as_chunks::<RECORD>().0;
    let place = records.partition_point(|bytes| record(bytes).id < id);
    records.get(place).map(record).filter(|found| found.id == id).map(|found| found.content)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn any_ids() -> impl Strategy<Value = Vec<SeenId>> {
        let id = prop_oneof![0_u128..20, any::<u128>()];
        vec((id, any::<u64>()).prop_map(|(id, content)| SeenId { id, content }), 0..40)
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_run_is_found_with_the_content_it_came_with_first(loads in vec(any_ids(), 1..5)) {
            let runs: Vec<SortedRun> = loads.iter().cloned().map(SortedRun::of).collect();
            let merged = SortedRun::merge(&runs);
            let mut first = BTreeMap::new();
            for seen in loads.iter().flatten() {
                first.entry(seen.id).or_insert(seen.content);
            }
            let found: Vec<(u128, u64)> = merged.records().map(|seen| (seen.id, seen.content)).collect();
            prop_assert_eq!(found, first.clone().into_iter().collect::<Vec<_>>(), "sorted, each id once");
            for id in (0..20).chain(first.keys().copied()) {
                prop_assert_eq!(find(merged.as_bytes(), id), first.get(&id).copied());
            }
            let stored = SortedRun::stored(merged.as_bytes().to_vec());
            prop_assert_eq!(stored.len(), first.len());
        }
    }
}
