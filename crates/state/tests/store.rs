//! The store and its one primitive, on a folder and in memory alike.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_state::{Creation, Generations, StateError, Store, workspace_key};
use proptest::prelude::*;

/// Each kind of store, with the guard of its folder.
fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let local = Store::open(folder.path().to_str().unwrap()).unwrap();
    vec![(Store::open("memory://").unwrap(), None), (local, Some(folder))]
}

#[tokio::test]
async fn what_is_written_can_be_read_listed_and_deleted() {
    for (store, _folder) in stores() {
        assert_eq!(store.get("a/b").await.unwrap(), None);
        store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
        store.put("a/b", Bytes::from_static(b"2")).await.unwrap();
        store.put("ab", Bytes::from_static(b"3")).await.unwrap();
        assert_eq!(store.get("a/b").await.unwrap().as_deref(), Some(b"2".as_slice()));
        assert_eq!(store.list("").await.unwrap(), ["a/b", "ab"]);
        assert_eq!(store.list("a").await.unwrap(), ["a/b"], "a prefix is whole segments");
        assert_eq!(store.list("nothing").await.unwrap(), Vec::<String>::new());
        store.delete("a/b").await.unwrap();
        store.delete("a/b").await.unwrap();
        assert_eq!(store.list("").await.unwrap(), ["ab"]);
    }
}

#[tokio::test]
async fn a_child_sees_only_what_is_its_own() {
    for (store, _folder) in stores() {
        let child = store.child("syncs/one").child("/lease/");
        child.put("x", Bytes::from_static(b"1")).await.unwrap();
        store.put("y", Bytes::new()).await.unwrap();
        assert_eq!(child.list("").await.unwrap(), ["x"]);
        assert_eq!(store.list("").await.unwrap(), ["syncs/one/lease/x", "y"]);
        assert_eq!(child.url(), format!("{}/syncs/one/lease", store.url()));
        assert!(child.prefix().as_ref().ends_with("syncs/one/lease"), "{}", child.prefix());
    }
}

#[tokio::test]
async fn creating_what_is_there_changes_nothing() {
    for (store, _folder) in stores() {
        assert_eq!(store.create("x", Bytes::from_static(b"1")).await.unwrap(), Creation::Won);
        assert_eq!(store.create("x", Bytes::from_static(b"2")).await.unwrap(), Creation::Lost);
        assert_eq!(store.get("x").await.unwrap().as_deref(), Some(b"1".as_slice()));
    }
}

#[tokio::test]
async fn a_folder_and_memory_prove_that_they_create_only_what_is_absent() {
    for (store, _folder) in stores() {
        store.prove_creation().await.unwrap();
        assert_eq!(store.list("").await.unwrap(), Vec::<String>::new(), "the probe is gone");
    }
}

#[tokio::test]
async fn a_proof_leaves_no_folder_that_was_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    std::fs::create_dir(&there).unwrap();
    let store = Store::reach(there.join("a/state").to_str().unwrap(), &BTreeMap::new()).unwrap();
    store.child("acme").prove_creation().await.unwrap();
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
}

#[test]
fn reaching_a_folder_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let reach = |options: &[(String, String)]| {
        Store::reach(missing.to_str().unwrap(), &options.iter().cloned().collect())
    };
    assert_eq!(reach(&[]).unwrap().folder(), Some(missing.clone()));
    assert!(!missing.exists());
    let refused = reach(&[("region".to_owned(), "x".to_owned())]).unwrap_err().to_string();
    assert!(refused.contains("only an object store has options"), "{refused}");
}

#[test]
fn a_location_is_a_folder_memory_or_an_error_that_says_what_would_do() {
    let text = |location: &str| Store::open(location).unwrap_err().to_string();
    assert!(text("ftp://x").contains("unknown scheme \"ftp\""));
    assert!(text("").contains("no folder is named"));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/made/here", folder.path().display());
    assert_eq!(Store::open(&url).unwrap().url(), url);
    assert!(folder.path().join("made/here").is_dir());
}

#[tokio::test]
async fn a_folder_is_made_absolute_when_it_is_opened() {
    // Cargo runs tests in the crate's folder; target-like folders are ignored by git.
    let name = format!("target-state-{}", std::process::id());
    let store = Store::open(&format!("./{name}")).unwrap();
    let absolute = std::env::current_dir().unwrap().join(&name);
    assert_eq!(store.url(), format!("file://{}", absolute.display()));
    std::fs::remove_dir_all(absolute).unwrap();
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_invisible() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let generations = Generations::<u32>::new(store.child("g"));
    generations.append(1, &1).await.unwrap();
    // What a process leaves that is killed between writing and naming: the name, '#' and a number.
    for leftover in ["00000000000000000001#1", "00000000000000000002#1", "00000000000000000009#7"] {
        std::fs::write(folder.path().join("g").join(leftover), b"half a val").unwrap();
    }
    assert_eq!(store.list("").await.unwrap(), ["g/00000000000000000001"]);
    assert_eq!(generations.latest().await.unwrap().unwrap().number, 1);
    generations.append(2, &2).await.unwrap();
    assert_eq!(generations.latest().await.unwrap().unwrap().value, 2);
}

#[tokio::test]
async fn the_latest_generation_is_the_highest() {
    for (store, _folder) in stores() {
        let generations = Generations::<String>::new(store);
        assert_eq!(generations.latest().await.unwrap(), None);
        for number in [1, 2, 10, 100] {
            generations.append(number, &format!("value {number}")).await.unwrap();
        }
        let latest = generations.latest().await.unwrap().unwrap();
        assert_eq!((latest.number, latest.value.as_str()), (100, "value 100"));
        assert_eq!(generations.get(2).await.unwrap().as_deref(), Some("value 2"));
        assert_eq!(generations.get(3).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_number_below_the_latest_is_lost_even_if_it_was_pruned() {
    for (store, _folder) in stores() {
        let generations = Generations::<u32>::new(store.clone());
        for number in 1..=5 {
            generations.append(number, &1).await.unwrap();
        }
        generations.prune(5).await.unwrap();
        assert!(matches!(generations.append(3, &2).await, Err(StateError::Lost { number: 3 })));
        assert_eq!(store.list("").await.unwrap(), ["00000000000000000005"], "nothing is left of the attempt");
    }
}

#[tokio::test]
async fn pruning_keeps_the_latest() {
    for (store, _folder) in stores() {
        let generations = Generations::<u32>::new(store.clone());
        for number in 1..=4 {
            generations.append(number, &0).await.unwrap();
        }
        generations.prune(3).await.unwrap();
        assert_eq!(generations.get(2).await.unwrap(), None);
        assert_eq!(generations.get(3).await.unwrap(), Some(0));
        generations.prune(u64::MAX).await.unwrap();
        assert_eq!(generations.latest().await.unwrap().unwrap().number, 4);
        assert_eq!(store.list("").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_value_of_another_shape_is_an_error_that_hides_it() {
    let store = Store::in_memory();
    Generations::<String>::new(store.clone()).append(1, &"confidential".to_owned()).await.unwrap();
    let error = Generations::<u32>::new(store).latest().await.unwrap_err();
    assert!(matches!(error, StateError::Malformed { .. }));
    assert!(!format!("{error} {error:?}").contains("confidential"));
}

#[tokio::test]
async fn a_workspace_has_one_key() {
    for (store, _folder) in stores() {
        let keys = futures::future::join_all((0..8).map(|_| workspace_key(&store))).await;
        let first = *keys[0].as_ref().unwrap();
        assert!(keys.into_iter().all(|key| key.unwrap() == first));
        assert_ne!(first, [0; 32]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn of_all_that_append_the_same_number_exactly_one_wins(writers in 2_usize..16, local in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        runtime.block_on(async {
            let mut both = stores();
            let (store, _folder) = both.swap_remove(usize::from(local));
            let generations = Generations::<usize>::new(store);
            for number in 1..=5 {
                let racers = (0..writers).map(|writer| {
                    let generations = generations.clone();
                    tokio::spawn(async move { (writer, generations.append(number, &writer).await) })
                });
                let mut winners = Vec::new();
                for racer in futures::future::join_all(racers).await {
                    let (writer, result) = racer.unwrap();
                    match result {
                        Ok(()) => winners.push(writer),
                        Err(StateError::Lost { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(winners.len(), 1, "generation {number}");
                assert_eq!(generations.latest().await.unwrap().unwrap().value, winners[0]);
            }
        });
    }
}
