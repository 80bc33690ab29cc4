//! Which messages of a batch are here for the first time.
//!
//! A client sends an event again when it has not seen our answer, under the same message id. An id is
//! remembered for 28 days per connection; of several messages with one id, the first that makes rows is
//! loaded and the others count as duplicates. A duplicate whose body differs is a conflict: it is left out
//! too, since nobody can say which is right, but it is counted apart.

use std::collections::HashMap;
use std::io::Write as _;

use ahash::RandomState;
use millrace_connector::SeenId;
use millrace_event_model::{MessageId, SourceId};
use twox_hash::XxHash3_64;

/// A source and a message id that are longer are put together on the heap.
const SHORT: usize = 128;

/// What a message is recognised by. The id's hash is a cryptographic one, since clients choose their message
/// ids and nobody may make two that are taken for each other; the content's is only there to tell by.
pub(crate) fn seen_id(source: &SourceId, message_id: &MessageId, body: &[u8]) -> SeenId {
    let (source, message_id) = (source.as_str().as_bytes(), message_id.as_str().as_bytes());
    // The length goes first, so that ("a", "bc") and ("ab", "c") differ.
    let parts: [&[u8]; 3] = [&(source.len() as u64).to_le_bytes(), source, message_id];
    let mut short = [0; SHORT];
    let mut rest = short.as_mut_slice();
    let fit = parts.iter().all(|part| rest.write_all(part).is_ok());
    let length = SHORT - rest.len();
    let hash = match short.get(..length).filter(|_| fit) {
        Some(joined) => blake3::hash(joined),
        None => blake3::hash(&parts.concat()),
    };
    let id = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    SeenId { id: u128::from_le_bytes(id), content: XxHash3_64::oneshot(body) }
}

/// What a message is to the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// Here for the first time: load it.
    First,
    /// The same message again.
    Duplicate,
    /// The same id with another body.
    Conflict,
}

/// The distinct ids of a batch.
pub(crate) struct DistinctIds {
    places: HashMap<u128, u32, RandomState>,
    /// In the order of the messages: what to ask the warehouse for.
    pub(crate) in_order: Vec<u128>,
    /// For each message the place of its id in the order.
    of_messages: Vec<u32>,
}

impl DistinctIds {
    pub(crate) fn of(messages: &[SeenId]) -> Self {
        let room = messages.len();
        let mut ids = Self {
            places: HashMap::with_capacity_and_hasher(room, RandomState::new()),
            in_order: Vec::with_capacity(room),
            of_messages: Vec::with_capacity(room),
        };
        for message in messages {
            // No batch has as many messages as 32 bits count.
            let next = u32::try_from(ids.in_order.len()).unwrap_or(u32::MAX);
            let place = *ids.places.entry(message.id).or_insert(next);
            if place == next {
                ids.in_order.push(message.id);
            }
            ids.of_messages.push(place);
        }
        ids
    }

    /// The place of an id in the order.
    pub(crate) fn place(&self, id: u128) -> Option<usize> {
        self.places.get(&id).map(|place| *place as usize)
    }
}

/// Judges the messages of a batch in order. `ids` are theirs, and `seen` holds for each of these the content that it was
/// loaded with before.
pub(crate) fn judge(messages: &[SeenId], ids: &DistinctIds, seen: Vec<Option<u64>>) -> Vec<Sighting> {
    let mut loaded = seen;
    let sighting = |(message, place): (&SeenId, &u32)| {
        // There is one for each id.
        let Some(content) = loaded.get_mut(*place as usize) else { return Sighting::First };
        match content {
            Some(before) if *before == message.content => Sighting::Duplicate,
            Some(_) => Sighting::Conflict,
            None => {
                *content = Some(message.content);
                Sighting::First
            }
        }
    };
    messages.iter().zip(&ids.of_messages).map(sighting).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(source: &str, message_id: &str, body: &str) -> SeenId {
        seen_id(&source.parse().unwrap(), &MessageId(message_id.to_owned()), body.as_bytes())
    }

    #[test]
    fn a_message_is_known_by_its_source_and_id() {
        assert_eq!(key("a", "m", "x").id, key("a", "m", "y").id);
        assert_ne!(key("a", "m", "x").content, key("a", "m", "y").content);
        assert_ne!(key("a", "bc", "x").id, key("ab", "c", "x").id);
    }

    /// Warehouses keep them for 28 days, so they stay what they are.
    #[test]
    fn an_id_of_any_length_is_the_hash_of_the_source_and_the_message_id() {
        for length in [0, 36, SHORT - 8 - 3, SHORT - 8 - 2, 1_000] {
            let message_id = "m".repeat(length);
            let joined = [3_u64.to_le_bytes().as_slice(), b"web", message_id.as_bytes()].concat();
            let hash = blake3::hash(&joined);
            let expected = u128::from_le_bytes(*hash.as_bytes().first_chunk().unwrap());
            assert_eq!(key("web", &message_id, "x").id, expected, "{length}");
        }
    }

    /// After messages were loaded with these contents.
    fn judged(messages: &[SeenId], loaded: &[SeenId]) -> Vec<Sighting> {
        let ids = DistinctIds::of(messages);
        let before = |id: &u128| loaded.iter().find(|known| known.id == *id).map(|known| known.content);
        let seen = ids.in_order.iter().map(before).collect();
        judge(messages, &ids, seen)
    }

    #[test]
    fn the_first_of_an_id_is_loaded_and_the_rest_are_duplicates_or_conflicts() {
        let messages = [key("a", "1", "x"), key("a", "1", "x"), key("a", "1", "y"), key("a", "2", "x")];
        let expected = [Sighting::First, Sighting::Duplicate, Sighting::Conflict, Sighting::First];
        assert_eq!(judged(&messages, &[]), expected);
        let ids = DistinctIds::of(&messages);
        assert_eq!(ids.in_order, [messages[0].id, messages[3].id]);
        assert_eq!((ids.place(messages[3].id), ids.place(7)), (Some(1), None));
    }

    #[test]
    fn what_the_warehouse_has_seen_is_not_loaded_again() {
        let message = key("a", "1", "x");
        let sightings = judged(&[message, key("a", "1", "y")], &[message]);
        assert_eq!(sightings, [Sighting::Duplicate, Sighting::Conflict]);
    }

    proptest! {
        #[test]
        fn each_id_is_loaded_once_in_whatever_batches_it_comes(
            ids in proptest::collection::vec((0_u128..6, 0_u64..3), 0..30),
            cut in 0_usize..30,
        ) {
            let messages: Vec<SeenId> = ids.into_iter().map(|(id, content)| SeenId { id, content }).collect();
            let whole = judged(&messages, &[]);
            let (first, second) = messages.split_at(cut.min(messages.len()));
            let mut split = judged(first, &[]);
            let loaded = first.iter().zip(&split).filter(|(_, sighting)| **sighting == Sighting::First);
            let loaded: Vec<SeenId> = loaded.map(|(message, _)| *message).collect();
            split.extend(judged(second, &loaded));
            prop_assert_eq!(whole, split);
        }
    }
}
