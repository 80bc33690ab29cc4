//! The bytes of a file of seen ids: a mark of format and version, then 24 bytes for each id, ascending by
//! id: the id and the hash of the content it was loaded with, both big-endian.

use std::cmp::Ordering;

use bytes::Bytes;
use millrace_connector::SeenId;

const MARK: &[u8] = b"MRSEEN1\n";
const RECORD: usize = 24;

/// Writes a file. The ids are sorted.
pub(crate) fn encode(ids: Vec<SeenId>) -> Bytes {
    let mut bytes = Vec::with_capacity(MARK.len() + ids.len() * RECORD);
    bytes.extend_from_slice(MARK);
    for seen in ids {
        bytes.extend_from_slice(&seen.id.to_be_bytes());
        bytes.extend_from_slice(&seen.content.to_be_bytes());
    }
    bytes.into()
}

/// Whether these bytes are all of a file.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    bytes.strip_prefix(MARK).is_some_and(|records| records.len().is_multiple_of(RECORD))
}

/// All ids of a whole file.
pub(crate) fn decode(bytes: &[u8]) -> Vec<SeenId> {
    records(bytes).iter().map(record).collect()
}

/// The content an id was loaded with, searched without decoding the file.
pub(crate) fn find(bytes: &[u8], id: u128) -> Option<u64> {
    let records = records(bytes);
    let found = records.binary_search_by(|bytes| compare(bytes, id)).ok()?;
    records.get(found).map(|bytes| record(bytes).content)
}

fn records(bytes: &[u8]) -> &[[u8; RECORD]] {
    bytes.strip_prefix(MARK).unwrap_or_default().as_chunks().0
}

fn record(bytes: &[u8; RECORD]) -> SeenId {
    let (id, content) = bytes.split_at(16);
    SeenId { id: number(id), content: number(content) as u64 }
}

fn compare(bytes: &[u8; RECORD], id: u128) -> Ordering {
    bytes.get(..16).cmp(&Some(id.to_be_bytes().as_slice()))
}

/// Big-endian; at most 16 bytes.
fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_and_nothing_else() {
        let ids: Vec<SeenId> = [1, 256, u128::MAX / 3, u128::MAX]
            .into_iter()
            .enumerate()
            .map(|(content, id)| SeenId { id, content: content as u64 })
            .collect();
        let bytes = encode(ids.clone());
        assert!(is_whole(&bytes));
        assert_eq!(decode(&bytes), ids);
        for seen in ids {
            assert_eq!(find(&bytes, seen.id), Some(seen.content));
            assert_eq!(find(&bytes, seen.id ^ 2), None);
        }
    }

    #[test]
    fn what_was_cut_off_is_not_whole() {
        let bytes = encode(vec![SeenId { id: 7, content: 7 }]);
        for length in 0..bytes.len() {
            assert_eq!(is_whole(bytes.get(..length).unwrap_or_default()), length == MARK.len(), "{length}");
        }
        assert_eq!(find(b"", 7), None);
    }
}
