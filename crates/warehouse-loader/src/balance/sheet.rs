//! Adding up. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use millrace_connector::{Count, Positions};
use millrace_event_model::{ConnectionId, Disposition, SourceId};
use serde::Serialize;

/// One source and hour of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BalanceLine {
    /// The hour of the server's received-at; of ELT records, of Kafka's append time.
    pub hour: DateTime<Utc>,
    /// The source.
    pub source: SourceId,
    /// The connection.
    pub connection: ConnectionId,
    /// What Kafka holds of it, from where the connection began.
    pub received: u64,
    /// What the books say, by how items ended.
    pub items: BTreeMap<Disposition, u64>,
    /// What Kafka holds behind the connection's position.
    pub in_flight: u64,
    /// Whether the two sides are the same.
    pub verdict: Verdict,
}

/// What comes of comparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "items")]
pub enum Verdict {
    /// The two sides are the same.
    Balanced,
    /// The books lack so many items which the connection has passed.
    Missing(u64),
    /// The books have so many items more than Kafka ever held.
    TooMany(u64),
    /// Retention has taken a part of the hour, so it cannot be counted any more. The books have more than
    /// what is left.
    Aged,
    /// Loads were committed while it was counted: ask again.
    Moving,
}

impl Verdict {
    /// Whether it is a defect, or sabotage.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Missing(_) | Self::TooMany(_))
    }
}

/// A connection as it stands.
#[derive(Debug, Clone)]
pub(super) struct Stand {
    pub(super) connection: ConnectionId,
    pub(super) source: SourceId,
    /// Where it began.
    pub(super) began: Positions,
    /// How far it got.
    pub(super) next: Positions,
    pub(super) books: Vec<Count>,
    /// Nothing was committed between the reading of positions and books.
    pub(super) still: bool,
}

/// What was found of a connection in an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    passed: u64,
    in_flight: u64,
}

/// Counts what a topic holds for the connections that read it.
#[derive(Debug)]
pub(super) struct Sheet {
    stands: Vec<Stand>,
    found: BTreeMap<(usize, DateTime<Utc>), Found>,
    /// Hours up to this one may have lost records to retention.
    aged: Option<DateTime<Utc>>,
}

impl Sheet {
    pub(super) fn new(stands: Vec<Stand>) -> Self {
        Self { stands, found: BTreeMap::new(), aged: None }
    }

    /// Retention has taken what was before this moment in some partition.
    pub(super) fn taken_before(&mut self, at: DateTime<Utc>) {
        self.aged = self.aged.max(Some(hour_of(at)));
    }

    /// A record that was received at `at`; `source` where it says.
    pub(super) fn count(
        &mut self,
        source: Option<&SourceId>,
        at: DateTime<Utc>,
        partition: i32,
        offset: i64,
    ) {
        let hour = hour_of(at);
        for (index, stand) in self.stands.iter().enumerate() {
            // One that does not say whose it is counts for each connection of the lane, as it is a dead letter in
            // each.
            let is_its = source.is_none_or(|source| *source == stand.source);
            let is_before = stand.began.get(&partition).is_some_and(|began| offset < *began);
            if !is_its || is_before {
                continue;
            }
            let found = self.found.entry((index, hour)).or_default();
            match stand.next.get(&partition).is_some_and(|next| offset < *next) {
                true => found.passed += 1,
                false => found.in_flight += 1,
            }
        }
    }

    /// A line for each hour of which there is anything, by hour, source and connection.
    pub(super) fn lines(self) -> Vec<BalanceLine> {
        let mut lines = Vec::new();
        for (index, stand) in self.stands.into_iter().enumerate() {
            let mut books: BTreeMap<DateTime<Utc>, BTreeMap<Disposition, u64>> = BTreeMap::new();
            for count in stand.books {
                *books.entry(count.hour).or_default().entry(count.disposition).or_default() += count.items;
            }
            let found = self.found.iter().filter(|((of, _), _)| *of == index);
            let found: BTreeMap<DateTime<Utc>, Found> =
                found.map(|((_, hour), found)| (*hour, *found)).collect();
            let hours: BTreeSet<&DateTime<Utc>> = books.keys().chain(found.keys()).collect();
            for hour in hours {
                let Found { passed, in_flight } = found.get(hour).copied().unwrap_or_default();
                let items = books.get(hour).cloned().unwrap_or_default();
                let verdict = judge(passed, &items, stand.still, self.aged.is_some_and(|aged| *hour <= aged));
                lines.push(BalanceLine {
                    hour: *hour,
                    source: stand.source.clone(),
                    connection: stand.connection.clone(),
                    received: passed + in_flight,
                    items,
                    in_flight,
                    verdict,
                });
            }
        }
        lines.sort_by(|one, other| {
            (one.hour, &one.source, &one.connection).cmp(&(other.hour, &other.source, &other.connection))
        });
        lines
    }
}

fn judge(passed: u64, items: &BTreeMap<Disposition, u64>, still: bool, aged: bool) -> Verdict {
    // What retention took unread is on neither side: Kafka does not hold it.
    let booked: u64 = items
        .iter()
        .filter(|(disposition, _)| **disposition != Disposition::Expired)
        .map(|(_, items)| items)
        .sum();
    match (passed.cmp(&booked), still) {
        (std::cmp::Ordering::Equal, _) => Verdict::Balanced,
        (_, false) => Verdict::Moving,
        (std::cmp::Ordering::Greater, true) => Verdict::Missing(passed - booked),
        (std::cmp::Ordering::Less, true) if aged => Verdict::Aged,
        (std::cmp::Ordering::Less, true) => Verdict::TooMany(booked - passed),
    }
}

/// The hour's beginning.
pub(super) fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = at.timestamp() - at.timestamp().rem_euclid(3_600);
    DateTime::from_timestamp(seconds, 0).unwrap_or(at)
}

/// The hours that the two moments are in or border on, whole: the books cannot tell of a part of one.
pub(super) fn whole_hours(from: DateTime<Utc>, until: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let last = hour_of(until);
    let end = if last == until { until } else { last + TimeDelta::hours(1) };
    (hour_of(from), end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_764_000_000 + 60 * minutes, 0).unwrap()
    }

    #[test]
    fn a_part_of_an_hour_is_the_whole_hour() {
        let hour = |minutes| hour_of(at(minutes));
        assert_eq!(whole_hours(at(30), hour(120)), (hour(30), hour(120)));
        assert_eq!(whole_hours(hour(60), hour(60) + TimeDelta::minutes(1)), (hour(60), hour(120)));
    }

    fn count(minutes: i64, disposition: Disposition, items: u64) -> Count {
        Count { source: "web".parse().unwrap(), hour: hour_of(at(minutes)), disposition, conflicts: 0, items }
    }

    fn stand(began: i64, next: i64, books: Vec<Count>) -> Stand {
        Stand {
            connection: "web--lake".parse().unwrap(),
            source: "web".parse().unwrap(),
            began: [(0, began)].into(),
            next: [(0, next)].into(),
            books,
            still: true,
        }
    }

    fn lines(stand: Stand, records: i64) -> Vec<BalanceLine> {
        let mut sheet = Sheet::new(vec![stand]);
        let web = "web".parse().unwrap();
        (0..records).for_each(|offset| sheet.count(Some(&web), at(offset), 0, offset));
        sheet.count(Some(&"app".parse().unwrap()), at(0), 0, 0);
        sheet.lines()
    }

    #[test]
    fn what_was_passed_is_in_the_books_and_the_rest_is_in_flight() {
        let books = vec![
            count(0, Disposition::Loaded, 57),
            count(0, Disposition::Duplicate, 3),
            count(60, Disposition::Rejected, 10),
        ];
        let lines = lines(stand(0, 70, books), 100);
        let told: Vec<_> = lines.iter().map(|line| (line.received, line.in_flight, line.verdict)).collect();
        assert_eq!(told, [(60, 0, Verdict::Balanced), (40, 30, Verdict::Balanced)]);
    }

    #[test]
    fn what_was_before_the_connection_began_is_not_its() {
        let lines = lines(stand(10, 60, vec![count(0, Disposition::Loaded, 50)]), 60);
        assert_eq!((lines[0].received, lines[0].verdict), (50, Verdict::Balanced));
    }

    #[test]
    fn a_difference_is_told_with_its_size() {
        let verdict = |items, change: fn(&mut Stand)| {
            let mut stand = stand(0, 60, vec![count(0, Disposition::Loaded, items)]);
            change(&mut stand);
            lines(stand, 60)[0].verdict
        };
        assert_eq!(verdict(58, |_| {}), Verdict::Missing(2));
        assert_eq!(verdict(61, |_| {}), Verdict::TooMany(1));
        assert_eq!(verdict(58, |stand| stand.still = false), Verdict::Moving);
        assert_eq!(verdict(60, |stand| stand.still = false), Verdict::Balanced);
        assert!(Verdict::Missing(2).is_wrong() && !Verdict::Aged.is_wrong());
    }

    #[test]
    fn what_retention_has_taken_is_counted_no_more_and_what_it_took_unread_is_on_neither_side() {
        let books = vec![count(0, Disposition::Loaded, 60), count(60, Disposition::Expired, 5)];
        let mut sheet = Sheet::new(vec![stand(0, 60, books)]);
        sheet.taken_before(at(30));
        let web = "web".parse().unwrap();
        (30..60).for_each(|offset| sheet.count(Some(&web), at(offset), 0, offset));
        let verdicts: Vec<Verdict> = sheet.lines().iter().map(|line| line.verdict).collect();
        assert_eq!(verdicts, [Verdict::Aged, Verdict::Balanced]);
    }

    #[test]
    fn a_record_that_does_not_say_whose_it_is_counts_for_everybody() {
        let mut other = stand(0, 1, vec![count(0, Disposition::Rejected, 1)]);
        other.source = "app".parse().unwrap();
        let mut sheet = Sheet::new(vec![stand(0, 1, vec![count(0, Disposition::Rejected, 1)]), other]);
        sheet.count(None, at(0), 0, 0);
        let lines = sheet.lines();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.verdict == Verdict::Balanced));
    }

    proptest! {
        #[test]
        fn books_of_all_that_was_passed_balance_and_any_other_do_not(
            hours in proptest::collection::vec(0_i64..4, 1..60),
            next in 0_usize..60,
            change in -2_i64..3,
        ) {
            let next = next.min(hours.len());
            let mut booked: BTreeMap<i64, u64> = BTreeMap::new();
            hours[..next].iter().for_each(|hour| *booked.entry(*hour).or_default() += 1);
            let wrong = hours[0];
            if next > 0 {
                let line = booked.entry(wrong).or_default();
                *line = line.saturating_add_signed(change);
            }
            let same = next == 0 || booked[&wrong] == hours[..next].iter().filter(|hour| **hour == wrong).count() as u64;
            let books = booked.iter().map(|(hour, items)| count(hour * 60, Disposition::Loaded, *items)).collect();
            let mut sheet = Sheet::new(vec![stand(0, i64::try_from(next).unwrap(), books)]);
            let web = "web".parse().unwrap();
            for (offset, hour) in hours.iter().enumerate() {
                sheet.count(Some(&web), at(hour * 60), 0, i64::try_from(offset).unwrap());
            }
            let lines = sheet.lines();
            prop_assert_eq!(lines.iter().all(|line| line.verdict == Verdict::Balanced), same);
            prop_assert_eq!(lines.iter().map(|line| line.received).sum::<u64>(), hours.len() as u64);
        }
    }
}
