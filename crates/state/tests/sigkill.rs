//! A local store under SIGKILL. The killed process is this test binary again, told by its environment.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bytes::Bytes;
use millrace_state::{Generations, Store};

const FOLDER: &str = "MILLRACE_TEST_STATE_FOLDER";
const ROUNDS: u64 = 10;

/// Appends for ever, and says so after each; does nothing when it is run as a test like any other.
#[tokio::test]
async fn appends_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let generations = Generations::<String>::new(Store::open(&folder).unwrap().child("g"));
    let mut number = generations.latest().await.unwrap().map_or(0, |latest| latest.number);
    loop {
        number += 1;
        generations.append(number, &"x".repeat(10_000)).await.unwrap();
        println!("appended {number}");
        generations.prune(number.saturating_sub(20)).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_written_survives_sigkill_and_nothing_half_written_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let generations = Generations::<String>::new(store.child("g"));
    for round in 1..=ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "appends_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed at another moment in each round: after so many appends, in the midst of the next.
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let appended: Vec<u64> = said
            .filter_map(|line| line.rsplit_once("appended ")?.1.parse().ok())
            .take(usize::try_from(7 * round).unwrap())
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();

        let last = *appended.last().unwrap();
        let latest = generations.latest().await.unwrap().unwrap();
        assert!(latest.number >= last, "round {round}: {last} was appended, {} is there", latest.number);
        for path in store.list("g").await.unwrap() {
            let content = store.get(&path).await.unwrap().unwrap();
            assert_eq!(content.len(), 10_002, "round {round}: {path} is whole");
        }
    }
    store.put("after", Bytes::new()).await.unwrap();
}
