//! Whose attempt at each load counts, where a table cannot tell by itself: plain files.
//!
//! Of all that do load N, the first whose seal is written has done it, under its epoch. The epochs of loads that
//! follow each other never fall: whoever begins N + 1 has read the seal of N and holds the fence. So a line for
//! each loader says it for all loads.

use serde::{Deserialize, Serialize};

/// Loaders that a seal remembers, some twenty bytes each. Of loads that were sealed before the first of them,
/// every file counts: what an attempt that lost has left there, and nobody has deleted in that many restarts,
/// would be read.
const KEPT: usize = 512;

/// The first load of each loader, and the loader's epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Sealers(Vec<(u64, u64)>);

impl Sealers {
    /// The same after this load was sealed under this epoch.
    pub(crate) fn with(&self, number: u64, epoch: u64) -> Self {
        let mut lines = self.0.clone();
        if self.0.last().is_none_or(|&(_, last)| last != epoch) {
            lines.push((number, epoch));
        }
        lines.drain(..lines.len().saturating_sub(KEPT));
        Self(lines)
    }

    /// The epoch under which a load was sealed, if it is remembered.
    pub(crate) fn of(&self, number: u64) -> Option<u64> {
        self.0.iter().rev().find(|&&(first, _)| first <= number).map(|&(_, epoch)| epoch)
    }

    /// Whether a load is the first that its loader sealed: one before it may have left an attempt.
    pub(crate) fn is_first(&self, number: u64) -> bool {
        self.0.iter().any(|&(first, _)| first == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_was_sealed_by_the_loader_of_its_time() {
        let loads = [(1, 4), (2, 4), (5, 4), (7, 6), (8, 9), (9, 9)];
        let sealers = loads.iter().fold(Sealers::default(), |sealers, &(n, epoch)| sealers.with(n, epoch));
        for (number, epoch) in loads {
            assert_eq!(sealers.of(number), Some(epoch), "{number}");
        }
        assert_eq!(sealers.of(0), None);
        let first: Vec<u64> = (0..12).filter(|number| sealers.is_first(*number)).collect();
        assert_eq!(first, [1, 7, 8]);
    }

    #[test]
    fn however_often_a_loader_is_restarted_a_seal_stays_small() {
        let restarts = 10_000;
        let sealers = (1..=restarts).fold(Sealers::default(), |sealers, n| sealers.with(n, n + 100));
        assert_eq!(sealers.of(restarts), Some(restarts + 100));
        assert_eq!(sealers.of(restarts - KEPT as u64), None);
        assert!(serde_json::to_vec(&sealers).is_ok_and(|bytes| bytes.len() < 32 * KEPT));
    }
}
