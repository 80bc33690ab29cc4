#![allow(clippy::unwrap_used, reason = "tests")]

use chrono::DateTime;
use millrace_event_model::PartitionKey;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn spec(mode: LoadMode) -> StreamSpec {
    let json_schema = json!({});
    StreamSpec {
        name: "s".into(),
        namespace: None,
        json_schema,
        primary_key: Vec::new(),
        mode,
        generation: 1,
    }
}

fn record(attempt: u64, body: RecordBody) -> Record {
    Record {
        source: "shop".parse().unwrap(),
        attempt: AttemptId(attempt),
        emitted_at: DateTime::UNIX_EPOCH,
        key: PartitionKey([0; 16]),
        body,
    }
}

fn row(attempt: u64) -> Record {
    record(attempt, RecordBody::Row { stream: "s".into(), namespace: None, json: "{}".into() })
}

fn begin(attempt: u64) -> Record {
    record(attempt, RecordBody::Begin)
}

fn barrier(attempt: u64, number: u64) -> Record {
    let barrier = Barrier { number, streams: vec![spec(LoadMode::Append)], state: None, complete: false };
    record(attempt, RecordBody::Barrier(Box::new(barrier)))
}

fn complete(attempt: u64, number: u64) -> Record {
    let barrier = Barrier { number, streams: vec![spec(LoadMode::Overwrite)], state: None, complete: true };
    record(attempt, RecordBody::Barrier(Box::new(barrier)))
}

/// Reads logs of partitions 0, 1, … from offset 0.
fn scan(logs: &[Vec<Record>]) -> Scan {
    let numbered = || (0_i32..).zip(logs);
    let mut scan = Scan::new(&numbered().map(|(partition, _)| (partition, 0)).collect());
    for (partition, log) in numbered() {
        read(&mut scan, partition, 0, log);
    }
    scan
}

fn read(scan: &mut Scan, partition: i32, from: i64, log: &[Record]) {
    for (offset, record) in (from..).zip(log) {
        scan.observe(partition, offset, record);
        scan.advance(partition, offset + 1, 10);
    }
}

/// One letter per row: real, void or pending.
fn verdicts(scan: &Scan, partition: i32, offsets: std::ops::Range<i64>) -> String {
    let letter = |offset| match scan.verdict(partition, offset) {
        Verdict::Real(_) => 'r',
        Verdict::Void => 'v',
        Verdict::Pending => '?',
    };
    offsets.map(letter).collect()
}

fn last_until(scan: &Scan) -> Vec<i64> {
    scan.steps().last().unwrap().until.values().copied().collect()
}

#[test]
fn rows_before_a_barrier_are_real_and_the_rest_waits() {
    let scan = scan(&[vec![begin(1), row(1), row(1), barrier(1, 1), row(1)]]);
    assert_eq!(verdicts(&scan, 0, 1..3), "rr");
    assert_eq!(verdicts(&scan, 0, 4..5), "?");
    assert_eq!(last_until(&scan), [4], "loads stop before the row that waits");
}

#[test]
fn a_newer_attempt_voids_what_the_older_left() {
    let scan = scan(&[vec![row(1), barrier(1, 1), row(1), begin(2), row(2), barrier(2, 2)]]);
    assert_eq!(verdicts(&scan, 0, 0..1), "r");
    assert_eq!(verdicts(&scan, 0, 2..3), "v");
    assert_eq!(verdicts(&scan, 0, 4..5), "r");
    assert_eq!(last_until(&scan), [6]);
}

#[test]
fn a_barrier_that_is_finished_after_a_crash_makes_its_rows_real() {
    let scan =
        scan(&[vec![row(1), barrier(1, 1), barrier(1, 1), begin(2)], vec![row(1), barrier(1, 1), begin(2)]]);
    assert_eq!(verdicts(&scan, 0, 0..1) + &verdicts(&scan, 1, 0..1), "rr");
    assert_eq!(last_until(&scan), [4, 3]);
}

#[test]
fn a_barrier_of_an_older_attempt_makes_nothing_of_a_newer_one_real() {
    let scan = scan(&[vec![row(2), barrier(1, 1)]]);
    assert_eq!(verdicts(&scan, 0, 0..1), "?");
}

#[test]
fn a_full_refresh_swaps_in_with_one_load_of_all_its_complete_barriers() {
    let scan = scan(&[vec![row(1), complete(1, 1), row(1)], vec![complete(1, 1)]]);
    let step =
        |until: [i64; 2], at_once| Step { until: Positions::from([(0, until[0]), (1, until[1])]), at_once };
    assert_eq!(scan.steps(), [step([1, 0], false), step([2, 1], true), step([2, 1], false)]);
    let range = |partition, start, end| OffsetRange { partition, start, end };
    assert_eq!(scan.swaps(&[range(0, 1, 2), range(1, 0, 1)]), [spec(LoadMode::Overwrite)]);
    assert_eq!(scan.swaps(&[range(0, 1, 2)]), []);
    assert_eq!(scan.swaps(&[range(0, 0, 1), range(1, 0, 1)]), []);
}

#[test]
fn loads_stop_before_a_complete_barrier_that_is_not_everywhere_yet() {
    let mut scan = scan(&[vec![row(1), complete(1, 1), begin(2)], vec![row(1)]]);
    assert_eq!(last_until(&scan), [1, 0]);
    read(&mut scan, 1, 1, &[complete(1, 1)]);
    assert_eq!(last_until(&scan), [3, 2]);
    assert!(scan.steps().iter().any(|step| step.at_once));
}

#[test]
fn a_repeated_complete_barrier_holds_nothing_up() {
    let scan = scan(&[vec![complete(1, 1), begin(2)], vec![begin(2), row(2), barrier(2, 2)]]);
    assert_eq!(scan.steps(), [Step { until: Positions::from([(0, 2), (1, 3)]), at_once: false }]);
    let everything = [0, 1].map(|partition| OffsetRange { partition, start: 0, end: 3 });
    assert_eq!(scan.swaps(&everything), []);
}

#[test]
fn what_is_loaded_is_forgotten() {
    let mut scan = scan(&[vec![row(1), complete(1, 1), row(1)]]);
    scan.forget_below(&Positions::from([(0, 2)]));
    assert_eq!(scan.steps(), [Step { until: Positions::from([(0, 2)]), at_once: false }]);
    read(&mut scan, 0, 3, &[barrier(1, 2)]);
    assert_eq!(verdicts(&scan, 0, 2..3), "r");
    assert_eq!(last_until(&scan), [4]);
}

#[test]
fn a_load_takes_what_fits_and_the_next_goes_on() {
    let scan = scan(&[vec![begin(1); 3], vec![begin(1); 2]]);
    let until = Positions::from([(0, 3), (1, 2)]);
    let range = |partition, start, end| OffsetRange { partition, start, end };
    let next = |from: [i64; 2], max_records, max_bytes| {
        let from = Positions::from([(0, from[0]), (1, from[1])]);
        scan.next_load(&from, &until, LoadLimits { max_records, max_bytes })
    };
    assert_eq!(next([0, 0], 9, 99), [range(0, 0, 3), range(1, 0, 2)]);
    assert_eq!(next([0, 0], 4, 99), [range(0, 0, 3), range(1, 0, 1)]);
    assert_eq!(next([0, 0], 9, 20), [range(0, 0, 2)]);
    assert_eq!(next([2, 0], 9, 20), [range(0, 2, 3), range(1, 0, 1)]);
    assert_eq!(next([2, 2], 1, 1), [range(0, 2, 3)], "a stretch is taken even where it is too large");
    assert_eq!(next([3, 2], 9, 99), []);
}

#[test]
fn ranges_are_decided_once_their_barrier_was_read() {
    let mut scan = scan(&[vec![row(1), row(1)]]);
    let ranges = [OffsetRange { partition: 0, start: 0, end: 1 }];
    assert!(!scan.has_decided(&ranges));
    read(&mut scan, 0, 2, &[barrier(1, 1)]);
    assert!(scan.has_decided(&ranges));
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        4 => (1_u64..4).prop_map(row),
        1 => (1_u64..4).prop_map(begin),
        2 => (1_u64..4).prop_map(|attempt| barrier(attempt, 1)),
    ]
}

/// The rule of the event model, word for word.
fn by_the_rule(log: &[Record], row: usize) -> char {
    let attempt = log[row].attempt;
    for later in &log[row + 1..] {
        if later.attempt > attempt {
            return 'v';
        }
        if later.attempt == attempt && matches!(later.body, RecordBody::Barrier(_)) {
            return 'r';
        }
    }
    '?'
}

proptest! {
    #[test]
    fn the_verdict_is_the_rule_of_the_event_model_from_wherever_the_scan_starts(
        log in vec(any_record(), 1..30),
        start in 0_usize..30,
    ) {
        let start = start.min(log.len());
        let from = i64::try_from(start).unwrap();
        let mut scan = Scan::new(&Positions::from([(0, from)]));
        read(&mut scan, 0, from, &log[start..]);
        for (index, record) in log.iter().enumerate().skip(start) {
            if matches!(record.body, RecordBody::Row { .. }) {
                let offset = i64::try_from(index).unwrap();
                let verdict = verdicts(&scan, 0, offset..offset + 1);
                prop_assert_eq!(verdict, by_the_rule(&log, index).to_string(), "row {}", index);
            }
        }
    }

    #[test]
    fn loads_never_go_past_an_undecided_row(log in vec(any_record(), 1..30)) {
        let scan = scan(std::slice::from_ref(&log));
        let until = last_until(&scan)[0];
        for (index, record) in log.iter().enumerate() {
            let pending = matches!(record.body, RecordBody::Row { .. }) && by_the_rule(&log, index) == '?';
            prop_assert!(!pending || i64::try_from(index).unwrap() >= until);
        }
    }
}
