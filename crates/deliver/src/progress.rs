//! How far a partition has got: pure.

use crate::ledger::Place;

/// How far a partition has got: everything below `low` is done, and so are the ranges of `done` above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) place: Place,
    pub(crate) low: i64,
    pub(crate) done: Vec<(i64, i64)>,
}

impl Position {
    /// Moves up to `low`, which is where the topic now begins; returns what was lost by that.
    pub(crate) fn advance(&mut self, low: i64) -> Vec<(i64, i64)> {
        let mut lost = Vec::new();
        let mut at = self.low;
        for (start, end) in &self.done {
            if at < (*start).min(low) {
                lost.push((at, (*start).min(low)));
            }
            at = at.max(*end);
        }
        if at < low {
            lost.push((at, low));
        }
        self.low = low.max(self.low);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_already_is_not_lost_to_retention() {
        let place = Place { topic: 0, partition: 0 };
        let lost = |low, done: &[(i64, i64)], to| {
            let mut position = Position { place, low, done: done.to_vec() };
            let lost = position.advance(to);
            assert_eq!(position.low, to.max(low));
            lost
        };
        assert_eq!(lost(5, &[], 9), [(5, 9)]);
        assert_eq!(lost(5, &[(6, 8), (20, 30)], 10), [(5, 6), (8, 10)]);
        assert_eq!(lost(5, &[(6, 12)], 10), [(5, 6)]);
        assert_eq!(lost(5, &[], 5), []);
    }
}
