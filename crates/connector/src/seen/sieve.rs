//! What is kept in memory of a run, to know without asking that an id is not in it, and where it must be if
//! it is.
//!
//! - A binary fuse filter of 16 bits an id: of 65,536 ids that are not there it takes one for one that may be.
//! - A **fence** for each block of records: the first half of its first id. They take a tenth of a byte an id.

use std::ops::Range;

use xorf::{BinaryFuse16, Descriptor, Filter};

use super::run::SortedRun;

/// Records of a block, the least that is read: 1,920 bytes lie in one or two of the pieces that PostgreSQL cuts long
/// values into.
const BLOCK: usize = 80;

/// Bytes of a filter's descriptor, as it is stored.
const DESCRIPTOR: usize = 20;

/// See the module's text.
#[derive(Debug)]
pub struct Sieve {
    /// `None`: there is no room for it, or none could be made. Then every id may be there.
    filter: Option<BinaryFuse16>,
    fences: Vec<u64>,
    records: usize,
}

impl Sieve {
    /// Of the records of a run.
    #[must_use]
    pub fn of(run: &SortedRun) -> Self {
        let mut keys: Vec<u64> = run.records().map(|seen| low(seen.id)).collect();
        let fences = run.records().step_by(BLOCK).map(|seen| high(seen.id)).collect();
        // Of hashes no two have one second half; a filter cannot be made of any that do.
        keys.sort_unstable();
        keys.dedup();
        let filter = BinaryFuse16::try_from(&keys).ok();
        Self { filter, fences, records: run.len() }
    }

    /// As it was stored; `None`: that is not what was stored.
    #[must_use]
    pub fn stored(filter: Option<&[u8]>, fences: &[u8], records: usize) -> Option<Self> {
        let (words, rest) = fences.as_chunks::<8>();
        if !rest.is_empty() || words.len() != records.div_ceil(BLOCK) {
            return None;
        }
        let fences = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let filter = match filter {
            None | Some([]) => None,
            Some(bytes) => Some(stored_filter(bytes)?),
        };
        Some(Self { filter, fences, records })
    }

    /// The filter, to be stored; empty where there is none.
    #[must_use]
    pub fn filter_bytes(&self) -> Vec<u8> {
        let Some(filter) = &self.filter else { return Vec::new() };
        let Descriptor { seed, segment_length, segment_length_mask, segment_count_length } =
            filter.descriptor;
        let mut bytes = Vec::with_capacity(DESCRIPTOR + 2 * filter.fingerprints.len());
        bytes.extend_from_slice(&seed.to_le_bytes());
        for number in [segment_length, segment_length_mask, segment_count_length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend(filter.fingerprints.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()));
        bytes
    }

    /// The fences, to be stored.
    #[must_use]
    pub fn fence_bytes(&self) -> Vec<u8> {
        self.fences.iter().flat_map(|fence| fence.to_le_bytes()).collect()
    }

    /// What the filter takes.
    #[must_use]
    pub fn filter_size(&self) -> usize {
        self.filter.as_ref().map_or(0, |filter| 2 * filter.fingerprints.len())
    }

    /// The same without the filter.
    #[must_use]
    pub fn without_filter(&self) -> Self {
        Self { filter: None, fences: self.fences.clone(), records: self.records }
    }

    /// The records among which the id is, if it is there at all; `None`: it is not.
    #[must_use]
    pub fn place(&self, id: u128) -> Option<Range<usize>> {
        if self.filter.as_ref().is_some_and(|filter| !filter.contains(&low(id))) {
            return None;
        }
        let half = high(id);
        let last = self.fences.partition_point(|fence| *fence <= half).checked_sub(1)?;
        // Blocks may begin with ids of the same first half.
        let first = self.fences.partition_point(|fence| *fence < half).saturating_sub(1);
        Some(first * BLOCK..((last + 1) * BLOCK).min(self.records))
    }
}

/// `None` also where a probe of it could go beyond its end.
fn stored_filter(bytes: &[u8]) -> Option<BinaryFuse16> {
    let (seed, rest) = bytes.split_first_chunk::<8>()?;
    let (segment_length, rest) = rest.split_first_chunk::<4>()?;
    let (segment_length_mask, rest) = rest.split_first_chunk::<4>()?;
    let (segment_count_length, rest) = rest.split_first_chunk::<4>()?;
    let descriptor = Descriptor {
        seed: u64::from_le_bytes(*seed),
        segment_length: u32::from_le_bytes(*segment_length),
        segment_length_mask: u32::from_le_bytes(*segment_length_mask),
        segment_count_length: u32::from_le_bytes(*segment_count_length),
    };
    let (words, odd) = rest.as_chunks::<2>();
    let fingerprints: Box<[u16]> = words.iter().map(|word| u16::from_le_bytes(*word)).collect();
    let reach = u64::from(descriptor.segment_count_length) + 2 * u64::from(descriptor.segment_length);
    let sound = odd.is_empty()
        && descriptor.segment_length.is_power_of_two()
        && descriptor.segment_length_mask == descriptor.segment_length - 1
        && descriptor.segment_count_length.is_multiple_of(descriptor.segment_length)
        && fingerprints.len() as u64 >= reach;
    sound.then_some(BinaryFuse16 { descriptor, fingerprints })
}

/// The first half of an id, by which records are sorted.
fn high(id: u128) -> u64 {
    (id >> 64) as u64
}

/// The second half, which knows nothing of the first: ids are hashes.
fn low(id: u128) -> u64 {
    id as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::SeenId;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::seen::run::{RECORD, find};

    fn run_of(ids: &[u128]) -> SortedRun {
        SortedRun::of(ids.iter().map(|id| SeenId { id: *id, content: *id as u64 }).collect())
    }

    fn look_up(sieve: &Sieve, run: &SortedRun, id: u128) -> Option<u64> {
        let place = sieve.place(id)?;
        find(&run.as_bytes()[place.start * RECORD..place.end * RECORD], id)
    }

    /// Ids that are hashes, and ids that somebody chose to be a nuisance.
    fn any_ids() -> impl Strategy<Value = Vec<u128>> {
        let id =
            prop_oneof![any::<u128>(), 0_u128..300, (0_u128..3).prop_map(|half| half << 64), Just(u128::MAX)];
        vec(id, 0..600)
    }

    proptest! {
        #[test]
        fn every_id_of_a_run_is_found_where_its_sieve_says(ids in any_ids(), strangers in vec(any::<u128>(), 20)) {
            let run = run_of(&ids);
            let made = Sieve::of(&run);
            let stored = Sieve::stored(Some(&made.filter_bytes()), &made.fence_bytes(), run.len()).unwrap();
            let small = made.without_filter();
            for sieve in [&made, &stored, &small] {
                for id in &ids {
                    prop_assert_eq!(look_up(sieve, &run, *id), Some(*id as u64));
                }
                for id in &strangers {
                    prop_assert_eq!(look_up(sieve, &run, *id), None);
                }
            }
        }

        #[test]
        fn what_was_not_stored_is_no_sieve_that_fails_later(filter in vec(any::<u8>(), 0..80), ids in any_ids()) {
            if let Some(sieve) = Sieve::stored(Some(&filter), &[0; 8], 1) {
                for id in ids {
                    let _ = sieve.place(id);
                }
            }
        }
    }

    #[test]
    fn few_strangers_pass_and_an_id_takes_little_more_than_two_bytes() {
        // A multiplicative hash: the ids are spread as those of messages are.
        let spread = |n: u128| (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let ids: Vec<u128> = (0..100_000).map(spread).collect();
        let sieve = Sieve::of(&run_of(&ids));
        let passed = (100_000..400_000).filter(|n| sieve.place(spread(*n)).is_some()).count();
        assert!(passed < 40, "of 300,000 strangers {passed} passed; 5 are to be expected");
        let bytes = sieve.filter_bytes().len() + sieve.fence_bytes().len();
        assert!(bytes < 250_000, "{bytes} bytes");
    }
}
