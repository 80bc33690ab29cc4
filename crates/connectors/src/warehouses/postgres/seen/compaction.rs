//! Which runs become one, so that there are never many to ask.
//!
//! Each load adds a run. Sixteen of about one size become one of the next size, so an id is written again
//! once for each power of sixteen: a day of a load a minute ends with a handful of runs. Days are never mixed,
//! since a day is forgotten as a whole; a day that is over is merged to the end.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use millrace_connector::seen::MAX_RECORDS;

/// What a plan needs to know of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its number; later ones are higher.
    pub(crate) run: i64,
    pub(crate) day: NaiveDate,
    pub(crate) records: usize,
}

/// How many runs of one size there are before they become one, and the most that do at once.
const FAN_IN: usize = 16;

/// The runs to merge next, in the order of their numbers; `None`: all is well.
pub(crate) fn next_merge(runs: &[Facts], today: NaiveDate) -> Option<Vec<i64>> {
    let mut days: BTreeMap<NaiveDate, Vec<Facts>> = BTreeMap::new();
    // Two of these always fit into one; a longer one is done.
    for run in runs.iter().filter(|run| run.records <= MAX_RECORDS / 2) {
        days.entry(run.day).or_default().push(*run);
    }
    days.into_iter()
        .find_map(|(day, runs)| if day < today { rest_of_a_day(runs) } else { sixteen_alike(runs) })
}

fn rest_of_a_day(mut runs: Vec<Facts>) -> Option<Vec<i64>> {
    runs.sort_by_key(|run| (run.records, run.run));
    together(&runs)
}

fn sixteen_alike(mut runs: Vec<Facts>) -> Option<Vec<i64>> {
    runs.sort_by_key(|run| run.run);
    let mut sizes: BTreeMap<u32, Vec<Facts>> = BTreeMap::new();
    for run in runs {
        // The power of sixteen.
        sizes.entry(run.records.max(1).ilog2() / 4).or_default().push(run);
    }
    sizes.into_values().find(|alike| alike.len() >= FAN_IN).and_then(|alike| together(&alike))
}

/// As many of these, from the first on, as make one run.
fn together(runs: &[Facts]) -> Option<Vec<i64>> {
    let mut records = 0;
    let fits = |run: &&Facts| {
        records += run.records;
        records <= MAX_RECORDS
    };
    let mut chosen: Vec<i64> = runs.iter().take(FAN_IN).take_while(fits).map(|run| run.run).collect();
    chosen.sort_unstable();
    (chosen.len() > 1).then_some(chosen)
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

    /// Does what is planned until nothing is; each id is the number of records that a load brought.
    fn settle(runs: &mut Vec<Facts>, today: NaiveDate) -> usize {
        let mut rewritten = 0;
        while let Some(chosen) = next_merge(runs, today) {
            let (merged, kept): (Vec<Facts>, Vec<Facts>) =
                runs.iter().partition(|run| chosen.contains(&run.run));
            assert!(merged.len() > 1 && merged.len() <= FAN_IN);
            assert!(merged.iter().all(|run| run.day == merged[0].day), "days are never mixed");
            let records = merged.iter().map(|run| run.records).sum();
            assert!(records <= MAX_RECORDS);
            rewritten += records;
            let run = runs.iter().map(|run| run.run).max().unwrap() + 1;
            *runs = kept;
            runs.push(Facts { run, day: merged[0].day, records });
        }
        rewritten
    }

    proptest! {
        #[test]
        fn there_are_never_many_runs(loads in vec((0_u64..4, 1_usize..400_000), 0..400)) {
            let mut runs = Vec::new();
            let mut loads = loads;
            loads.sort_by_key(|(number, _)| *number);
            let mut total = 0;
            for (run, (number, records)) in loads.into_iter().enumerate() {
                let run = runs.iter().map(|run: &Facts| run.run).max().unwrap_or(run as i64) + 1;
                runs.push(Facts { run, day: day(number), records });
                total += records;
                settle(&mut runs, day(number));
            }
            prop_assert_eq!(runs.iter().map(|run| run.records).sum::<usize>(), total, "none is lost");
            let long = 2 * total / MAX_RECORDS + 1;
            prop_assert!(runs.len() <= long + 4 + 5 * (FAN_IN - 1), "{} runs of {} ids", runs.len(), total);
        }
    }

    #[test]
    fn a_day_of_a_load_a_minute_ends_as_few_runs_and_each_id_is_written_thrice() {
        let mut runs = Vec::new();
        let mut rewritten = 0;
        for minute in 0..1_440 {
            runs.push(Facts {
                run: runs.iter().map(|run: &Facts| run.run).max().unwrap_or(minute) + 1,
                day: day(0),
                records: 1_000,
            });
            rewritten += settle(&mut runs, day(0));
        }
        assert!(runs.len() <= 30, "{} runs in the evening", runs.len());
        rewritten += settle(&mut runs, day(1));
        assert!(runs.len() <= 3, "{} runs the next day", runs.len());
        assert!(rewritten <= 4 * 1_440_000, "{rewritten} records");
    }
}
