//! Files of seen ids in a folder.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use super::*;

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path().to_str().unwrap()).unwrap()
}

/// Spread as the hashes of messages are.
fn id(n: u64) -> u128 {
    u128::from(n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

fn ids(range: std::ops::Range<u64>) -> Vec<SeenId> {
    range.map(|n| SeenId { id: id(n), content: n }).collect()
}

/// A load of these ids.
async fn load(seen: &Seen, number: u64, at: DateTime<Utc>, of: std::ops::Range<u64>) {
    let written = seen.write(number, at, &ids(of)).await.unwrap();
    seen.remember(number + 1, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_while_files_are_merged_finds_every_id() {
    let now = DateTime::UNIX_EPOCH;
    let loads = 320;
    let asked: Vec<u128> = (1..=loads).map(id).collect();
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let loader = Arc::new(Seen::new(store.clone(), loads + 1));
        for number in 1..=loads {
            loader.write(number, now, &ids(number..number + 1)).await.unwrap();
        }
        let tidying = Arc::clone(&loader);
        let tidied = tokio::spawn(async move {
            for _ in 0..3 {
                tidying.tidy(now).await?;
            }
            Ok::<_, ConnectorError>(())
        });
        // One that reads all files at first, one that knew of them when they were small, and the loader itself.
        let knew = Seen::new(store.clone(), loads + 1);
        while !tidied.is_finished() {
            for seen in [&Seen::new(store.clone(), loads + 1), &knew, &*loader] {
                let known = seen.lookup(&asked, now).await.unwrap();
                assert!(known.iter().all(Option::is_some));
            }
        }
        tidied.await.unwrap().unwrap();
        let left = store.list("").await.unwrap();
        assert!(left.len() <= 20, "{left:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_no_damage_and_one_that_is_cut_off_is() {
    let store = Store::in_memory();
    let seen = Seen::new(store.clone(), 3);
    let name = FileName { day: DateTime::UNIX_EPOCH.date_naive(), first: 2, last: 2 };
    assert_eq!(seen.read(&name).await.unwrap(), None);
    store.create(&name.path(), Bytes::from_static(b"MRS")).await.unwrap();
    for error in
        [seen.read(&name).await.unwrap_err(), seen.lookup(&[1], DateTime::UNIX_EPOCH).await.unwrap_err()]
    {
        assert!(error.full().contains("is damaged; delete it"), "{}", error.full());
    }
}

#[tokio::test]
async fn files_of_the_first_version_and_filters_without_room_are_read_for_each_lookup() {
    let folder = tempfile::tempdir().unwrap();
    let (store, now) = (store(&folder), DateTime::UNIX_EPOCH);
    let run = SortedRun::of(ids(0..50));
    let old = Bytes::from([b"MRSEEN1\n".as_slice(), run.as_bytes()].concat());
    store.create("1970-01-01/00000000000000000001", old).await.unwrap();
    let seen = Seen::new(store, 2);
    load(&seen, 2, now, 50..400).await;
    let asked: Vec<u128> = (0..500).map(id).collect();
    let expected: Vec<_> = (0..500).map(|n| (n < 400).then_some(n)).collect();
    assert_eq!(seen.lookup(&asked, now).await.unwrap(), expected);
    let without: Vec<SeenFile> = {
        let index = seen.known().index.clone().unwrap();
        index.files().iter().map(|file| SeenFile { sieve: None, ..file.clone() }).collect()
    };
    assert_eq!(without.len(), 2);
    assert_eq!(seen.ask(&Index::new(without), &asked).await.unwrap(), Some(expected));
}

#[tokio::test]
async fn what_a_load_remembers_while_files_are_read_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (store, now) = (store(&folder), DateTime::UNIX_EPOCH);
    let seen = Seen::new(store, 1);
    load(&seen, 1, now, 0..10).await;
    let version = seen.known().version;
    let read = seen.read_index().await.unwrap().unwrap();
    load(&seen, 2, now, 10..20).await;
    assert!(seen.known().version > version && read.files().len() == 1);
    assert_eq!(seen.lookup(&[id(15)], now).await.unwrap(), [Some(15)]);
}

#[tokio::test]
async fn an_id_takes_27_bytes_on_disk_and_less_than_three_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (store, now) = (store(&folder), DateTime::UNIX_EPOCH);
    let seen = Seen::new(store, 1);
    let (loads, each) = (20, 10_000);
    for number in 0..loads {
        load(&seen, number + 1, now, number * each..(number + 1) * each).await;
    }
    seen.tidy(now).await.unwrap();
    let size = |path: &std::path::Path| std::fs::metadata(path).unwrap().len();
    let day = folder.path().join("1970-01-01");
    let on_disk: u64 = std::fs::read_dir(day).unwrap().map(|entry| size(&entry.unwrap().path())).sum();
    let index = seen.known().index.clone().unwrap();
    let sieves = index.files().iter().filter_map(|file| file.sieve.as_ref());
    let in_memory: usize = sieves.map(|sieve| sieve.filter_size() + sieve.fence_bytes().len()).sum();
    let count = (loads * each) as f64;
    let (on_disk, in_memory) = (on_disk as f64 / count, in_memory as f64 / count);
    eprintln!("{on_disk:.2} bytes of state per event on disk, {in_memory:.2} in memory");
    assert!(on_disk < 27.0, "{on_disk}");
    assert!(in_memory < 3.0, "{in_memory}");
}

#[tokio::test]
async fn what_a_lookup_reads_does_not_grow_with_the_ids_that_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let (store, now) = (store(&folder), DateTime::UNIX_EPOCH);
    let seen = Seen::new(store.clone(), 1);
    let mut asked_files = Vec::new();
    for number in 0..10 {
        load(&seen, number + 1, now, number * 5_000..(number + 1) * 5_000).await;
        let index = seen.index().await.unwrap().unwrap();
        let new: Vec<u128> = (1_000_000..1_005_000).map(id).collect();
        let mut slices_read = 0;
        for file in index.files() {
            slices_read += slices(file.sieve.as_ref().unwrap(), &new).len();
        }
        asked_files.push(slices_read);
    }
    assert!(asked_files.iter().all(|blocks| *blocks <= 8), "{asked_files:?}");
    // A single duplicate among them is one block of one file.
    let index = seen.index().await.unwrap().unwrap();
    let blocks =
        index.files().iter().map(|file| slices(file.sieve.as_ref().unwrap(), &[id(7)]).len()).sum::<usize>();
    assert_eq!(blocks, 1);
    assert_eq!(seen.lookup(&[id(7)], now).await.unwrap(), [Some(7)]);
}
