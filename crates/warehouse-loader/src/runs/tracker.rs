//! Which run something belongs to, and when a run is over. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_connector::{LoadReport, OffsetRange};
use millrace_event_model::{ConnectionId, Disposition};

use super::record::{RunError, RunId, RunRecord, RunState};
use crate::books::{Books, LeftOut};

/// What a connection on an interval loads within so long is one run. Longer, and a run tells less of when
/// something happened; shorter, and the log of a busy connection reaches less far back.
const SLICE: TimeDelta = TimeDelta::minutes(1);

/// A failure that repeats itself for longer than this is told anew.
const REPEATED: TimeDelta = TimeDelta::hours(1);

/// Whose runs these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    /// The connection itself, for a job too.
    pub(crate) connection: ConnectionId,
    pub(crate) job: Option<String>,
    pub(crate) holder: String,
    pub(crate) epoch: u64,
}

/// A load that is durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loaded {
    pub(crate) ranges: Vec<OffsetRange>,
    pub(crate) items: BTreeMap<Disposition, u64>,
    pub(crate) left_out: LeftOut,
    pub(crate) conflicts: u64,
    pub(crate) rows: BTreeMap<String, u64>,
    pub(crate) report: LoadReport,
}

impl Loaded {
    pub(crate) fn new(
        ranges: Vec<OffsetRange>,
        rows: &BTreeMap<String, u64>,
        books: &Books,
        report: LoadReport,
    ) -> Self {
        let left_out = books.left_out();
        let mut load = Self { ranges, rows: rows.clone(), left_out, report, ..Self::default() };
        for line in books.lines() {
            *load.items.entry(line.disposition).or_default() += line.items;
            load.conflicts += line.conflicts;
        }
        load
    }
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// The run as it stands.
    Open(RunRecord),
    /// The run, which is over.
    Close(RunRecord),
}

/// The runs of one connection under one epoch.
#[derive(Debug)]
pub(crate) struct Tracker {
    about: About,
    open: Option<RunRecord>,
    /// When the attempt began that followed the failure in hand.
    again: Option<DateTime<Utc>>,
}

impl Tracker {
    pub(crate) fn new(about: About) -> Self {
        Self { about, open: None, again: None }
    }

    /// Another epoch begins: what is not a failure that may go on is over.
    pub(crate) fn act_under(&mut self, epoch: u64) -> Vec<Write> {
        self.about.epoch = epoch;
        match &self.open {
            Some(run) if run.state != RunState::Failed => self.end(),
            _ => Vec::new(),
        }
    }

    /// A load begins. After a failure it is another attempt, of which nobody knows yet whether it is a run of
    /// its own or the same failure again.
    pub(crate) fn begin(&mut self, now: DateTime<Utc>, sliced: bool) -> Vec<Write> {
        match &self.open {
            Some(run) if run.state == RunState::Failed => {
                self.again = Some(now);
                return Vec::new();
            }
            Some(run) if !sliced || now - run.began < SLICE => return Vec::new(),
            _ => {}
        }
        let mut writes = self.end();
        writes.push(self.open(now, RunState::Running));
        writes
    }

    /// A load is durable.
    pub(crate) fn loaded(&mut self, now: DateTime<Utc>, load: Loaded) -> Vec<Write> {
        let mut writes = Vec::new();
        if self.open.as_ref().is_none_or(|run| run.state == RunState::Failed) {
            let began = self.again.unwrap_or(now);
            writes = self.end();
            self.open(began, RunState::Running);
        }
        if let Some(run) = &mut self.open {
            add(run, now, load);
            writes.push(Write::Open(run.clone()));
        }
        writes
    }

    /// Something went wrong, perhaps before a load began: a run that has loaded and is only open until the next one
    /// begins has not failed.
    pub(crate) fn failed(&mut self, now: DateTime<Utc>, error: RunError, sliced: bool) -> Vec<Write> {
        let mut writes = Vec::new();
        let is_past = |run: &RunRecord| sliced && run.state == RunState::Loaded && now - run.began >= SLICE;
        match &mut self.open {
            Some(run) if is_again(run, now, &error) => run.attempts += 1,
            Some(run) if run.state != RunState::Failed && !is_past(run) => {}
            _ => {
                writes = self.end();
                self.open(now, RunState::Failed);
            }
        }
        if let Some(run) = &mut self.open {
            run.state = RunState::Failed;
            run.error = Some(error);
            run.ended = now;
            writes.push(Write::Open(run.clone()));
        }
        writes
    }

    /// The wake-up is over, or somebody else goes on.
    pub(crate) fn end(&mut self) -> Vec<Write> {
        self.again = None;
        self.open.take().map(|run| Write::Close(over(run))).into_iter().collect()
    }

    /// The run in hand.
    pub(crate) fn id(&self) -> Option<&RunId> {
        self.open.as_ref().map(|run| &run.id)
    }

    fn open(&mut self, now: DateTime<Utc>, state: RunState) -> Write {
        let About { connection, job, holder, epoch } = self.about.clone();
        let of = format!("{connection} {job:?} {holder} {epoch}");
        let run = RunRecord {
            id: RunId::new(now, &of),
            connection,
            job,
            state,
            began: now,
            ended: now,
            holder,
            epoch,
            attempts: 1,
            loads: 0,
            items: BTreeMap::new(),
            no_consent: 0,
            integrations: 0,
            conflicts: 0,
            rows: BTreeMap::new(),
            statements: 0,
            bytes: 0,
            ranges: Vec::new(),
            error: None,
        };
        self.open = Some(run.clone());
        Write::Open(run)
    }
}

/// A run as it is kept: of one whose process does nothing more.
pub(crate) fn over(mut run: RunRecord) -> RunRecord {
    if run.state == RunState::Running {
        run.state = RunState::Interrupted;
    }
    run
}

fn is_again(run: &RunRecord, now: DateTime<Utc>, error: &RunError) -> bool {
    run.state == RunState::Failed && run.error.as_ref() == Some(error) && now - run.began < REPEATED
}

fn add(run: &mut RunRecord, now: DateTime<Utc>, load: Loaded) {
    run.state = RunState::Loaded;
    run.ended = now;
    run.loads += 1;
    run.no_consent += load.left_out.no_consent;
    run.integrations += load.left_out.integrations;
    run.conflicts += load.conflicts;
    run.statements += load.report.statements;
    run.bytes += load.report.bytes;
    for (disposition, items) in load.items {
        *run.items.entry(disposition).or_default() += items;
    }
    for (table, rows) in load.rows {
        *run.rows.entry(table).or_default() += rows;
    }
    for range in load.ranges {
        match run.ranges.iter_mut().find(|known| known.partition == range.partition) {
            Some(known) => known.end = known.end.max(range.end),
            None => run.ranges.push(range),
        }
    }
    run.ranges.sort_unstable_by_key(|range| range.partition);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::record::NextAttempt;
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_764_000_000 + seconds, 0).unwrap()
    }

    fn tracker() -> Tracker {
        let connection = "web--lake".parse().unwrap();
        Tracker::new(About { connection, job: None, holder: "test".to_owned(), epoch: 3 })
    }

    fn load(items: u64, start: i64) -> Loaded {
        let end = start + i64::try_from(items).unwrap();
        Loaded {
            ranges: vec![OffsetRange { partition: 0, start, end }],
            items: BTreeMap::from([(Disposition::Loaded, items)]),
            left_out: LeftOut::default(),
            conflicts: 0,
            rows: BTreeMap::from([("tracks".to_owned(), items)]),
            report: LoadReport { statements: 2, bytes: 10 * items },
        }
    }

    fn error(message: &str) -> RunError {
        RunError {
            class: "warehouse".to_owned(),
            code: None,
            message: message.to_owned(),
            statement: None,
            next: NextAttempt::Retry,
        }
    }

    fn closed(writes: &[Write]) -> Vec<&RunRecord> {
        let closed = writes.iter().filter(|write| matches!(write, Write::Close(_)));
        closed.map(|(Write::Open(run) | Write::Close(run))| run).collect()
    }

    #[test]
    fn what_an_interval_loads_within_a_minute_is_one_run() {
        let mut tracker = tracker();
        let mut writes = Vec::new();
        for (number, second) in [0, 2, 59, 60, 61].into_iter().enumerate() {
            writes.extend(tracker.begin(at(second), true));
            writes.extend(tracker.loaded(at(second + 1), load(5, i64::try_from(number).unwrap() * 5)));
        }
        writes.extend(tracker.end());
        let runs = closed(&writes);
        let told = |run: &&RunRecord| (run.state, run.loads, run.rows["tracks"], run.statements, run.bytes);
        let expected = [(RunState::Loaded, 3, 15, 6, 150), (RunState::Loaded, 2, 10, 4, 100)];
        assert_eq!(runs.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(runs[0].ranges, [OffsetRange { partition: 0, start: 0, end: 15 }]);
        assert_eq!((runs[1].began, runs[1].ended), (at(60), at(62)));
        assert!(runs[0].id < runs[1].id);
    }

    #[test]
    fn what_one_wake_up_loads_is_one_run_however_long_it_takes() {
        let mut tracker = tracker();
        let mut writes = Vec::new();
        for minute in 0..100 {
            writes.extend(tracker.begin(at(minute * 60), false));
            writes.extend(tracker.loaded(at(minute * 60 + 30), load(1, minute)));
        }
        writes.extend(tracker.end());
        assert_eq!(closed(&writes).len(), 1);
        assert_eq!(closed(&writes)[0].loads, 100);
    }

    #[test]
    fn a_failure_that_repeats_itself_is_one_run_and_another_one_is_another() {
        let mut tracker = tracker();
        let mut writes = tracker.begin(at(0), true);
        for second in 1..=5 {
            writes.extend(tracker.failed(at(second), error("away"), true));
            assert_eq!(tracker.begin(at(second), true), [], "nobody knows yet what it will be");
        }
        writes.extend(tracker.failed(at(6), error("full"), true));
        writes.extend(tracker.begin(at(7), true));
        writes.extend(tracker.loaded(at(9), load(1, 0)));
        writes.extend(tracker.end());
        let runs = closed(&writes);
        let told = |run: &&RunRecord| (run.state, run.attempts, run.loads, run.began, run.ended);
        let expected = [
            (RunState::Failed, 5, 0, at(0), at(5)),
            (RunState::Failed, 1, 0, at(6), at(6)),
            (RunState::Loaded, 1, 1, at(7), at(9)),
        ];
        assert_eq!(runs.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(runs[0].error, Some(error("away")));
    }

    #[test]
    fn a_failure_that_lasts_is_told_every_hour() {
        let mut tracker = tracker();
        let mut writes = Vec::new();
        for minute in 0..150 {
            writes.extend(tracker.act_under(4));
            writes.extend(tracker.failed(at(minute * 60), error("away"), true));
        }
        writes.extend(tracker.end());
        let attempts: Vec<u64> = closed(&writes).iter().map(|run| run.attempts).collect();
        assert_eq!(attempts, [60, 60, 30]);
    }

    #[test]
    fn a_run_that_fails_says_what_it_had_committed() {
        let mut tracker = tracker();
        tracker.begin(at(0), false);
        tracker.loaded(at(1), load(7, 0));
        tracker.failed(at(2), error("away"), false);
        let writes = tracker.end();
        let run = closed(&writes)[0];
        assert_eq!((run.state, run.loads, run.rows["tracks"]), (RunState::Failed, 1, 7));
    }

    #[test]
    fn what_fails_before_a_load_begins_is_no_failure_of_a_run_that_is_past() {
        let mut tracker = tracker();
        let mut writes = tracker.begin(at(0), true);
        writes.extend(tracker.loaded(at(1), load(7, 0)));
        // The next load is staged a quarter of an hour later, and the warehouse is away.
        writes.extend(tracker.failed(at(900), error("away"), true));
        writes.extend(tracker.failed(at(901), error("away"), true));
        writes.extend(tracker.end());
        let runs = closed(&writes);
        let told = |run: &&RunRecord| (run.state, run.loads, run.attempts, run.began, run.ended);
        let expected = [(RunState::Loaded, 1, 1, at(0), at(1)), (RunState::Failed, 0, 2, at(900), at(901))];
        assert_eq!(runs.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(runs[0].error, None);
    }

    #[test]
    fn what_was_in_hand_when_the_process_ended_was_interrupted() {
        let mut tracker = tracker();
        let writes = tracker.begin(at(0), true);
        let Write::Open(run) = writes[0].clone() else { return };
        assert_eq!(run.state, RunState::Running);
        assert_eq!(over(run).state, RunState::Interrupted);
        tracker.loaded(at(1), load(1, 0));
        assert_eq!(closed(&tracker.end())[0].state, RunState::Loaded);
        assert_eq!(tracker.end(), []);
    }

    #[derive(Debug, Clone)]
    enum Happens {
        Load(u64),
        Fail(u8),
        End,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            4 => (0_u64..5).prop_map(Happens::Load),
            2 => (0_u8..2).prop_map(Happens::Fail),
            1 => Just(Happens::End),
        ]
    }

    proptest! {
        #[test]
        fn the_runs_add_up_to_the_loads_and_no_two_have_one_name(
            story in proptest::collection::vec((happens(), 0_i64..50), 0..40),
            sliced in any::<bool>(),
        ) {
            let mut tracker = tracker();
            let (mut writes, mut second, mut offset, mut loads, mut items) = (Vec::new(), 0, 0, 0_u64, 0_u64);
            for (what, pause) in story {
                second += pause + 1;
                match what {
                    Happens::Load(number) => {
                        writes.extend(tracker.begin(at(second), sliced));
                        second += 1;
                        writes.extend(tracker.loaded(at(second), load(number, offset)));
                        offset += i64::try_from(number).unwrap();
                        loads += 1;
                        items += number;
                    }
                    Happens::Fail(which) => {
                        writes.extend(tracker.failed(at(second), error(&which.to_string()), sliced));
                    }
                    Happens::End => writes.extend(tracker.end()),
                }
            }
            writes.extend(tracker.end());
            let runs = closed(&writes);
            prop_assert_eq!(runs.iter().map(|run| run.loads).sum::<u64>(), loads);
            let loaded = runs.iter().filter_map(|run| run.items.get(&Disposition::Loaded)).sum::<u64>();
            prop_assert_eq!(loaded, items);
            prop_assert_eq!(runs.iter().map(|run| run.rows.values().sum::<u64>()).sum::<u64>(), items);
            let names: std::collections::BTreeSet<_> = runs.iter().map(|run| &run.id).collect();
            prop_assert_eq!(names.len(), runs.len());
            prop_assert!(runs.iter().all(|run| run.state != RunState::Running));
            prop_assert!(runs.iter().all(|run| (run.state == RunState::Failed) == run.error.is_some()));
        }
    }
}
