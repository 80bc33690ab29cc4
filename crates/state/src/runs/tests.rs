#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn log() -> RunLog<u32> {
    RunLog::new(Store::in_memory())
}

fn id(number: usize) -> String {
    format!("{number:08}")
}

async fn numbers(log: &RunLog<u32>, from: &str) -> Vec<u32> {
    log.since(from).await.unwrap().into_iter().map(|(_, run)| run).collect()
}

#[tokio::test]
async fn a_run_is_seen_while_it_is_open_and_once_when_it_is_closed() {
    let log = log();
    assert_eq!(log.open("live").await.unwrap(), None);
    log.put_open("live", "a", &1).await.unwrap();
    log.put_open("live", "a", &2).await.unwrap();
    log.put_open("job", "b", &7).await.unwrap();
    assert_eq!(log.open("live").await.unwrap(), Some(("a".to_owned(), 2)));
    assert_eq!(numbers(&log, "").await, [2, 7]);
    log.close("live", "a", &3).await.unwrap();
    log.close("live", "a", &3).await.unwrap();
    assert_eq!(log.open("live").await.unwrap(), None);
    assert_eq!(numbers(&log, "").await, [3, 7]);
    assert_eq!(numbers(&log, "b").await, [7], "what is older is left out");
}

#[tokio::test]
async fn what_stays_open_though_it_was_closed_counts_as_closed() {
    let log = log();
    log.close("live", "a", &3).await.unwrap();
    // The one who closed it was killed before the open run was deleted.
    log.put_open("live", "a", &2).await.unwrap();
    assert_eq!(numbers(&log, "").await, [3]);
}

#[tokio::test]
async fn a_log_that_never_stops_stays_small_and_keeps_the_newest() {
    let log = log();
    let written = MOST_RUNS + 3 * LARGE;
    for number in 0..written {
        log.close("live", &id(number), &u32::try_from(number).unwrap()).await.unwrap();
        if number.is_multiple_of(997) {
            let objects = log.store.list("").await.unwrap().len();
            assert!(objects <= SINGLES + SMALL_FILES + LARGE_FILES + 1, "{objects}");
        }
    }
    let kept = numbers(&log, "").await;
    assert!(kept.len() <= MOST_RUNS && kept.len() >= MOST_RUNS - 2 * LARGE, "{}", kept.len());
    let newest: Vec<u32> = (0..u32::try_from(written).unwrap()).rev().take(kept.len()).collect();
    assert!(kept.iter().rev().eq(&newest), "without a hole");
}

#[tokio::test]
async fn runs_that_two_writers_have_merged_are_read_once() {
    let log = log();
    for number in 0..5 {
        log.store.put(&single_path(&id(number)), encode("x", &id(number), &1_u32).unwrap()).await.unwrap();
    }
    let paths: Vec<String> = (0..5).map(|number| single_path(&id(number))).collect();
    let before = log.store.get(&paths[0]).await.unwrap().unwrap();
    log.merge(&paths).await.unwrap();
    // The slower one had read this one before it was deleted, and has written its own file.
    log.store.put("merged/00000000_00000000_1", before).await.unwrap();
    assert_eq!(numbers(&log, "").await.len(), 5);
    log.merge(&paths).await.unwrap();
    assert_eq!(numbers(&log, "").await.len(), 5, "merging what is gone loses nothing");
}

#[tokio::test]
async fn what_is_no_run_is_named_without_its_content() {
    let log = log();
    log.store.put("single/a", Bytes::from_static(b"{\"id\":\"a\",\"run\":\"secret\"}")).await.unwrap();
    let error = log.since("").await.unwrap_err().to_string();
    assert_eq!(error, "\"single/a\" in the state store is malformed: not a run, at line 1 column 24");
}

fn merged(first: usize, count: usize) -> Merged {
    Merged { first: id(first), last: id(first + count - 1), count }
}

#[test]
fn a_name_is_read_as_it_was_written() {
    let file = merged(7, 60);
    assert_eq!(
        Files::of(&[file.path(), "open/live".to_owned(), "merged/odd".to_owned()]).merged,
        [file].into()
    );
}

proptest! {
    #[test]
    fn only_what_is_many_is_merged_and_only_the_oldest_of_the_large_files_go(
        singles in 0_usize..2 * SINGLES,
        small in 0_usize..2 * SMALL_FILES,
        large in 0_usize..2 * LARGE_FILES,
    ) {
        let mut files = Files::default();
        files.singles.extend((0..singles).map(|number| id(9_000_000 + number)));
        files.merged.extend((0..small).map(|number| merged(8_000_000 + number * SINGLES, SINGLES)));
        files.merged.extend((0..large).map(|number| merged(number * LARGE, LARGE)));
        let merging = files.to_merge().map_or(0, |paths| paths.len());
        prop_assert_eq!(merging > 0, singles >= SINGLES || small >= SMALL_FILES);
        prop_assert!(merging == 0 || merging == singles || merging == small);
        let old = files.too_old();
        prop_assert_eq!(old.len(), large.saturating_sub(LARGE_FILES));
        prop_assert!(old.iter().all(|file| file.count >= LARGE && file.first < id(old.len() * LARGE)));
    }
}
