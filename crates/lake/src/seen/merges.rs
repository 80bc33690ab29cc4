//! Which files of seen ids become one, so that there are never many to ask.
//!
//! Each load adds a file. Only neighbours are merged, since a merged file is named by its first and last load.
//! Sixteen of one size in a row become one of the next size, so an id is written again once for each
//! power of sixteen; a day that is over is merged to the end, and days are never mixed.

use chrono::NaiveDate;
use millrace_connector::seen::MAX_RECORDS;

use super::name::FileName;

/// How many files of one size there are in a row, with smaller ones between, before they become one.
const FAN_IN: usize = 16;

/// The most files that become one at once; the rest does in the next round.
const MOST: usize = 64;

/// A size class is a power of sixteen; this one holds the longest that are merged.
const CLASSES: u32 = MAX_RECORDS.ilog2() / 4;

/// What to merge now, each group in order. `files`: with their ids, in the order of days and loads.
pub(crate) fn merges(files: &[(FileName, usize)], today: NaiveDate) -> Vec<Vec<FileName>> {
    files
        .chunk_by(|a, b| a.0.day == b.0.day)
        .flat_map(|day| {
            let is_over = day.first().is_some_and(|(name, _)| name.day < today);
            if is_over { groups(day) } else { of_the_smallest_class(day) }
        })
        .collect()
}

fn of_the_smallest_class(day: &[(FileName, usize)]) -> Vec<Vec<FileName>> {
    for class in 0..=CLASSES {
        let is_small = |(_, ids): &(FileName, usize)| class_of(*ids) <= class && !is_long(*ids);
        let rows = day.chunk_by(|a, b| is_small(a) == is_small(b));
        let alike = |row: &[(FileName, usize)]| row.iter().filter(|(_, ids)| class_of(*ids) == class).count();
        let rows = rows.filter(|row| row.first().is_some_and(is_small) && alike(row) >= FAN_IN);
        let found: Vec<_> = rows.flat_map(groups).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn class_of(ids: usize) -> u32 {
    ids.max(1).ilog2() / 4
}

/// Two that are not long always fit into one.
fn is_long(ids: usize) -> bool {
    ids > MAX_RECORDS / 2
}

/// Neighbours, as many together as make one file.
fn groups(row: &[(FileName, usize)]) -> Vec<Vec<FileName>> {
    let mut groups: Vec<Vec<FileName>> = Vec::new();
    let mut total = 0;
    for &(name, ids) in row {
        total += ids;
        match groups.last_mut() {
            Some(group) if group.len() < MOST && total <= MAX_RECORDS => group.push(name),
            _ => {
                groups.push(vec![name]);
                total = ids;
            }
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn day(number: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 1).unwrap() + chrono::Days::new(number)
    }

    /// Merges until there is nothing to merge; returns the ids that were written again.
    fn settle(files: &mut Vec<(FileName, usize)>, today: NaiveDate) -> usize {
        let mut rewritten = 0;
        loop {
            let groups = merges(files, today);
            if groups.is_empty() {
                return rewritten;
            }
            for group in groups {
                let (head, tail) = (group[0], group[group.len() - 1]);
                let place = files.iter().position(|(name, _)| *name == head).unwrap();
                let parts: Vec<_> = files.drain(place..place + group.len()).collect();
                assert_eq!(parts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), group, "neighbours");
                assert!(group.len() > 1 && parts.iter().all(|(name, _)| name.day == head.day));
                let ids = parts.iter().map(|(_, ids)| ids).sum();
                assert!(ids <= MAX_RECORDS);
                rewritten += ids;
                let merged = FileName { day: head.day, first: head.first, last: tail.last };
                files.insert(place, (merged, ids));
            }
        }
    }

    fn load(day: NaiveDate, number: u64, ids: usize) -> (FileName, usize) {
        (FileName { day, first: number, last: number }, ids)
    }

    proptest! {
        #[test]
        fn no_id_is_lost_and_a_day_that_is_over_has_few_files(
            mut loads in vec((0_u64..4, 1_usize..400_000), 0..400)
        ) {
            loads.sort_by_key(|(number, _)| *number);
            let (mut files, mut total) = (Vec::new(), 0);
            for (load_number, (number, ids)) in (1..).zip(loads) {
                files.push(load(day(number), load_number, ids));
                total += ids;
                settle(&mut files, day(number));
            }
            settle(&mut files, day(9));
            prop_assert_eq!(files.iter().map(|(_, ids)| ids).sum::<usize>(), total);
            // Two neighbours of a day are more than one file may have, so most files are half full.
            prop_assert!(files.len() <= 2 * total / MAX_RECORDS + 2 * 4, "{} files of {total}", files.len());
        }
    }

    #[test]
    fn a_day_of_a_load_a_minute_ends_as_few_files_and_each_id_is_written_thrice() {
        let (mut files, mut rewritten) = (Vec::new(), 0);
        for minute in 0..1_440 {
            files.push(load(day(0), minute, 1_000));
            rewritten += settle(&mut files, day(0));
        }
        assert!(files.len() <= 60, "{} files in the evening", files.len());
        rewritten += settle(&mut files, day(1));
        assert!(files.len() <= 3, "{} files the next day", files.len());
        assert!(rewritten <= 4 * 1_440_000, "{rewritten} ids");
    }
}
