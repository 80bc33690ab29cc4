//! Values by offset, put in at the end and taken out anywhere: pure.
//!
//! Offsets come in order, so a value stands where the distance to the first says, or before it where some are left
//! out: nothing is hashed, and no tree is balanced.

use std::collections::VecDeque;

/// So many empty places are no waste.
const SPARE: usize = 64;

/// Takes room for at most twice what it holds.
#[derive(Debug)]
pub(super) struct Unfinished<T> {
    /// By offset. The first is never empty.
    slots: VecDeque<(i64, Option<T>)>,
    len: usize,
}

impl<T> Unfinished<T> {
    pub(super) fn new() -> Self {
        Self { slots: VecDeque::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Behind all others: `offset` is larger than theirs.
    pub(super) fn push(&mut self, offset: i64, value: T) {
        self.slots.push_back((offset, Some(value)));
        self.len += 1;
    }

    pub(super) fn get(&self, offset: i64) -> Option<&T> {
        self.slots.get(self.find(offset)?)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, offset: i64) -> Option<&mut T> {
        let place = self.find(offset)?;
        self.slots.get_mut(place)?.1.as_mut()
    }

    pub(super) fn remove(&mut self, offset: i64) -> Option<T> {
        let place = self.find(offset)?;
        let value = self.slots.get_mut(place)?.1.take()?;
        self.len -= 1;
        while self.slots.front().is_some_and(|(_, value)| value.is_none()) {
            self.slots.pop_front();
        }
        if self.slots.len() > 2 * self.len + SPARE {
            self.slots.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    pub(super) fn pop_first(&mut self) -> Option<T> {
        let first = self.first()?;
        self.remove(first)
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.slots.front().map(|(offset, _)| *offset)
    }

    pub(super) fn offsets(&self) -> impl Iterator<Item = i64> {
        self.slots.iter().filter(|(_, value)| value.is_some()).map(|(offset, _)| *offset)
    }

    fn find(&self, offset: i64) -> Option<usize> {
        let furthest = usize::try_from(offset.checked_sub(self.first()?)?).ok()?;
        if self.slots.get(furthest).is_some_and(|(found, _)| *found == offset) {
            return Some(furthest);
        }
        self.slots.binary_search_by_key(&offset, |(found, _)| *found).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A map is the model; `skip` leaves offsets out, `take` says which of them is removed then.
        #[test]
        fn it_is_a_map_of_bounded_size(steps in prop::collection::vec((0..3_i64, any::<prop::sample::Index>(), 0..3_u8), 1..400)) {
            let (mut map, mut unfinished) = (BTreeMap::new(), Unfinished::new());
            let mut next = 5;
            for (skip, which, removals) in steps {
                next += skip;
                map.insert(next, next);
                unfinished.push(next, next);
                next += 1;
                for _ in 0..removals {
                    let offset = which.index(usize::try_from(next).unwrap_or(1)) as i64;
                    prop_assert_eq!(unfinished.get(offset), map.get(&offset));
                    prop_assert_eq!(unfinished.get_mut(offset), map.get_mut(&offset));
                    prop_assert_eq!(unfinished.remove(offset), map.remove(&offset));
                }
                prop_assert_eq!(unfinished.first(), map.keys().next().copied());
                prop_assert_eq!(unfinished.len(), map.len());
                prop_assert!(unfinished.slots.len() <= 2 * map.len() + SPARE + 1);
            }
            prop_assert!(unfinished.offsets().eq(map.keys().copied()));
            while let Some(value) = unfinished.pop_first() {
                prop_assert_eq!(map.pop_first(), Some((value, value)));
            }
            prop_assert!(map.is_empty());
        }
    }
}
