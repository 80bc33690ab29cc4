//! What was seen within the last hour or so, in bounded memory: pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_service::later;

/// A map that forgets: at the earliest after `window`, at the latest after two of them. When `capacity`
/// is reached sooner, so is the forgetting: memory is bounded before the promise is.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    window: Duration,
    capacity: usize,
    newer: HashMap<K, V, ahash::RandomState>,
    older: HashMap<K, V, ahash::RandomState>,
    turn_at: Option<DateTime<Utc>>,
}

impl<K: Hash + Eq, V: Copy> Recent<K, V> {
    pub(crate) fn new(window: Duration, capacity: usize) -> Self {
        Self { window, capacity, newer: HashMap::default(), older: HashMap::default(), turn_at: None }
    }

    /// What is remembered of `key`; if nothing, `value` is from now on.
    pub(crate) fn get_or_insert(&mut self, key: K, value: V, now: DateTime<Utc>) -> V {
        self.turn(now);
        if let Some(known) = self.newer.get(&key).or_else(|| self.older.get(&key)) {
            return *known;
        }
        self.newer.insert(key, value);
        value
    }

    /// Remembers `value`, whatever was there.
    pub(crate) fn insert(&mut self, key: K, value: V, now: DateTime<Utc>) {
        self.turn(now);
        self.newer.insert(key, value);
    }

    fn turn(&mut self, now: DateTime<Utc>) {
        let turn_at = *self.turn_at.get_or_insert_with(|| later(now, self.window));
        if now < turn_at && self.newer.len() < self.capacity / 2 {
            return;
        }
        // The room of what is forgotten is used again.
        std::mem::swap(&mut self.newer, &mut self.older);
        self.newer.clear();
        // After a silence of two windows all of it is too old.
        if now >= later(turn_at, self.window) {
            self.older.clear();
        }
        self.turn_at = Some(later(now, self.window));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::minutes(minutes)
    }

    #[test]
    fn what_was_seen_is_remembered_for_the_window_at_least() {
        let mut recent = Recent::new(HOUR, 1000);
        assert_eq!(recent.get_or_insert("a", 1, at(0)), 1);
        recent.get_or_insert("b", 1, at(59));
        assert_eq!(recent.get_or_insert("a", 2, at(60)), 1, "an hour later");
        assert_eq!(recent.get_or_insert("b", 2, at(118)), 1);
        assert_eq!(recent.get_or_insert("a", 3, at(200)), 3, "forgotten after two windows");
        recent.insert("a", 4, at(201));
        assert_eq!(recent.get_or_insert("a", 5, at(201)), 4);
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::new(HOUR, 100);
        for number in 0..10_000 {
            recent.get_or_insert(number, number, at(0));
            assert!(recent.newer.len() + recent.older.len() <= 100);
        }
        assert_eq!(recent.get_or_insert(9_999, 0, at(0)), 9_999, "the latest are still known");
    }
}
