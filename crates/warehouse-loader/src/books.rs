//! The books: how each item of a source ended, by hour. What Kafka holds of an hour is what the counts of
//! each connection add up to (design §2.4).

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use millrace_connector::Count;
use millrace_event_model::{Disposition, SourceId};
use millrace_privacy::LeftOutBy;

/// Counts of one batch. They are committed with the batch's positions, so a crash cannot unbalance them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// By source, in order: mostly there is one, and it is looked up for each item.
    counts: Vec<(SourceId, Lines)>,
    left_out: LeftOut,
}

/// How many of the items that were filtered were not for the operator to filter. The warehouse's books do not
/// tell them from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// The user has denied a consent.
    pub(crate) no_consent: u64,
    /// The event's `integrations` object leaves the warehouse out.
    pub(crate) integrations: u64,
}

impl LeftOut {
    fn add(&mut self, other: Self) {
        self.no_consent += other.no_consent;
        self.integrations += other.integrations;
    }
}

type Lines = BTreeMap<(DateTime<Utc>, Disposition), Tally>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    items: u64,
    conflicts: u64,
}

impl Books {
    /// One item of `source` that the server received at `at` ended so.
    pub(crate) fn count(&mut self, source: &SourceId, at: DateTime<Utc>, disposition: Disposition) {
        self.count_many(source, at, disposition, 1);
    }

    /// As [`Self::count`], for several. None leaves no line.
    pub(crate) fn count_many(
        &mut self,
        source: &SourceId,
        at: DateTime<Utc>,
        disposition: Disposition,
        items: u64,
    ) {
        if items > 0 {
            self.tally(source, at, disposition).items += items;
        }
    }

    /// One duplicate whose content is not that of the item it repeats.
    pub(crate) fn count_conflict(&mut self, source: &SourceId, at: DateTime<Utc>) {
        let tally = self.tally(source, at, Disposition::Duplicate);
        tally.items += 1;
        tally.conflicts += 1;
    }

    /// One item that the user or the client has left out.
    pub(crate) fn count_left_out(&mut self, source: &SourceId, at: DateTime<Utc>, by: LeftOutBy) {
        self.count(source, at, Disposition::Filtered);
        match by {
            LeftOutBy::User => self.left_out.no_consent += 1,
            LeftOutBy::Client => self.left_out.integrations += 1,
        }
    }

    /// Adds those of another part of the batch.
    pub(crate) fn add(&mut self, other: Books) {
        self.left_out.add(other.left_out);
        for (source, lines) in other.counts {
            let own = self.lines_of(&source);
            for (line, tally) in lines {
                let sum = own.entry(line).or_default();
                sum.items += tally.items;
                sum.conflicts += tally.conflicts;
            }
        }
    }

    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many ended so, over all hours.
    pub(crate) fn total(&self, disposition: Disposition) -> u64 {
        let of_it =
            self.counts.iter().flat_map(|(_, lines)| lines).filter(|((_, own), _)| *own == disposition);
        of_it.map(|(_, tally)| tally.items).sum()
    }

    /// Those that the user or the client has left out, over all hours.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The lines as a load takes them, in order.
    pub(crate) fn lines(&self) -> Vec<Count> {
        let lines = self.counts.iter().flat_map(|(source, lines)| {
            lines.iter().map(|((hour, disposition), tally)| Count {
                source: source.clone(),
                hour: *hour,
                disposition: *disposition,
                conflicts: tally.conflicts,
                items: tally.items,
            })
        });
        lines.collect()
    }

    fn tally(&mut self, source: &SourceId, at: DateTime<Utc>, disposition: Disposition) -> &mut Tally {
        self.lines_of(source).entry((hour_of(at), disposition)).or_default()
    }

    fn lines_of(&mut self, source: &SourceId) -> &mut Lines {
        let found = self.counts.binary_search_by(|(own, _)| own.cmp(source));
        let index = found.unwrap_or_else(|index| {
            self.counts.insert(index, (source.clone(), Lines::new()));
            index
        });
        // It was found there, or has just been put there.
        &mut self.counts[index].1
    }
}

/// The hour's beginning.
fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    // Fails only for moments that nanoseconds in 64 bits cannot reach (1677 to 2262): those keep their time.
    at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn items_are_counted_by_source_hour_and_end() {
        let (web, app): (SourceId, SourceId) = ("web".parse().unwrap(), "app".parse().unwrap());
        let mut books = Books::default();
        books.count(&web, at("2026-01-01T10:59:59.999Z"), Disposition::Loaded);
        books.count(&web, at("2026-01-01T10:00:00Z"), Disposition::Loaded);
        books.count(&web, at("2026-01-01T11:00:00Z"), Disposition::Loaded);
        books.count_conflict(&web, at("2026-01-01T11:00:00Z"));
        let mut others = Books::default();
        books.count_left_out(&app, at("2026-01-01T10:20:00Z"), LeftOutBy::User);
        others.count(&app, at("2026-01-01T10:00:00Z"), Disposition::Filtered);
        others.count_left_out(&app, at("2026-01-01T10:00:00Z"), LeftOutBy::Client);
        others.count(&web, at("2026-01-01T11:30:00Z"), Disposition::Duplicate);
        others.count_many(&app, at("2026-01-01T10:00:00Z"), Disposition::Expired, 0);
        books.add(others);
        let lines: Vec<_> = books
            .lines()
            .into_iter()
            .map(|line| {
                (
                    line.source.to_string(),
                    line.hour.to_rfc3339(),
                    line.disposition,
                    line.items,
                    line.conflicts,
                )
            })
            .collect();
        let (ten, eleven) = ("2026-01-01T10:00:00+00:00".to_owned(), "2026-01-01T11:00:00+00:00".to_owned());
        let expected = [
            ("app".to_owned(), ten.clone(), Disposition::Filtered, 3, 0),
            ("web".to_owned(), ten, Disposition::Loaded, 2, 0),
            ("web".to_owned(), eleven.clone(), Disposition::Loaded, 1, 0),
            ("web".to_owned(), eleven, Disposition::Duplicate, 2, 1),
        ];
        assert_eq!(lines, expected);
        assert_eq!(books.total(Disposition::Loaded), 3);
        assert_eq!(books.left_out(), LeftOut { no_consent: 1, integrations: 1 });
    }
}
