//! The bytes of a file of seen ids: what a loader keeps of it in memory first, then the ids.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the mark of format and version |
//! | 3 × 8 | how many ids there are, and how many bytes of filter and of fences, little-endian |
//! | | the filter and the fences of a [`Sieve`] |
//! | 24 each | the ids, ascending, each with the hash of the content it was loaded with, both big-endian |
//!
//! The first version has the mark and the ids alone.

use std::ops::Range;

use bytes::Bytes;
use millrace_connector::seen::{RECORD, Sieve, SortedRun};

const MARK: &[u8; 8] = b"MRSEEN2\n";
const FIRST_MARK: &[u8; 8] = b"MRSEEN1\n";
const NUMBER: usize = size_of::<u64>();

/// What is before the sieve.
pub(crate) const HEAD: usize = MARK.len() + 3 * NUMBER;

/// What the head of a file says of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) records: usize,
    filter: usize,
    fences: usize,
}

/// What a file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    Head(Head),
    /// It is of the first version: the rest has to be read to know more.
    IdsAlone,
}

impl Head {
    /// Where the sieve lies in the file.
    pub(crate) fn sieve(&self) -> Range<usize> {
        HEAD..self.ids()
    }

    /// Where the ids begin.
    pub(crate) fn ids(&self) -> usize {
        HEAD.saturating_add(self.filter).saturating_add(self.fences)
    }

    /// The sieve of the bytes that [`Self::sieve`] names; `None`: they are not what was written.
    pub(crate) fn sieve_of(&self, bytes: &[u8]) -> Option<Sieve> {
        let (filter, fences) = bytes.split_at_checked(self.filter)?;
        Sieve::stored(Some(filter), fences, self.records)
    }
}

/// Writes a file.
pub(crate) fn encode(run: &SortedRun, sieve: &Sieve) -> Bytes {
    let (filter, fences) = (sieve.filter_bytes(), sieve.fence_bytes());
    let mut bytes = Vec::with_capacity(HEAD + filter.len() + fences.len() + run.as_bytes().len());
    bytes.extend_from_slice(MARK);
    for number in [run.len(), filter.len(), fences.len()] {
        bytes.extend_from_slice(&(number as u64).to_le_bytes());
    }
    bytes.extend_from_slice(&filter);
    bytes.extend_from_slice(&fences);
    bytes.extend_from_slice(run.as_bytes());
    bytes.into()
}

/// Reads how a file begins, of its first [`HEAD`] bytes or more; `None`: it is none of ours.
pub(crate) fn beginning(bytes: &[u8]) -> Option<Beginning> {
    let (mark, rest) = bytes.split_first_chunk::<{ MARK.len() }>()?;
    if mark == FIRST_MARK {
        return Some(Beginning::IdsAlone);
    }
    let (records, rest) = number(rest)?;
    let (filter, rest) = number(rest)?;
    let (fences, _) = number(rest)?;
    (mark == MARK).then_some(Beginning::Head(Head { records, filter, fences }))
}

/// All ids of a file; `None`: it is damaged.
pub(crate) fn run_of(bytes: &Bytes) -> Option<SortedRun> {
    let ids = match beginning(bytes)? {
        Beginning::Head(head) => {
            bytes.get(head.ids()..).filter(|ids| Some(ids.len()) == head.records.checked_mul(RECORD))?
        }
        Beginning::IdsAlone => {
            bytes.get(FIRST_MARK.len()..).filter(|ids| ids.len().is_multiple_of(RECORD))?
        }
    };
    Some(SortedRun::stored(ids.to_vec()))
}

/// Where the ids of a file of the first version begin.
pub(crate) const IDS_ALONE: usize = FIRST_MARK.len();

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER>()?;
    Some((usize::try_from(u64::from_le_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::SeenId;
    use millrace_connector::seen::find;

    use super::*;

    fn run_of_ids(ids: &[u128]) -> SortedRun {
        SortedRun::of(ids.iter().map(|id| SeenId { id: *id, content: *id as u64 }).collect())
    }

    #[test]
    fn what_was_written_is_read_again_whole_and_in_parts() {
        let ids = [1, 256, u128::MAX / 3, u128::MAX];
        let run = run_of_ids(&ids);
        let bytes = encode(&run, &Sieve::of(&run));
        assert_eq!(run_of(&bytes), Some(run));
        let Some(Beginning::Head(head)) = beginning(&bytes[..HEAD]) else { unreachable!("a head") };
        let sieve = head.sieve_of(&bytes[head.sieve()]).unwrap();
        for id in ids {
            let place = sieve.place(id).unwrap();
            let records = &bytes[head.ids() + place.start * RECORD..head.ids() + place.end * RECORD];
            assert_eq!(find(records, id), Some(id as u64));
        }
    }

    #[test]
    fn files_of_the_first_version_are_read() {
        let run = run_of_ids(&[7, 9]);
        let bytes = Bytes::from([FIRST_MARK.as_slice(), run.as_bytes()].concat());
        assert_eq!(beginning(&bytes), Some(Beginning::IdsAlone));
        assert_eq!(run_of(&bytes), Some(run));
    }

    #[test]
    fn what_was_cut_off_is_not_whole() {
        let run = run_of_ids(&[7]);
        let bytes = encode(&run, &Sieve::of(&run));
        for length in 0..bytes.len() {
            assert_eq!(run_of(&bytes.slice(..length)), None, "{length}");
        }
        assert_eq!(run_of(&Bytes::from_static(b"something else that is as long")), None);
    }
}
