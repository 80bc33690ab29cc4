//! Ids of the messages that were loaded, for 28 days: `seen/<yyyy-mm-dd>/<N>`.
//!
//! A load writes its ids, sorted, to one file that carries its number, before it is sealed. Files of loads
//! that are not whole are not consulted: when such a load is done again, its own ids are no duplicates
//! (`ids_of_a_load_that_is_done_again_are_not_duplicates`). Many files of a day are merged into one that is
//! named by the first and last load in it; the merged file is written before the others go, and an id that
//! is there twice does no harm, so a crash between the two does none either. Whoever finds a file gone that
//! was listed lists again (`a_lookup_while_files_are_merged_finds_every_id`).
//!
//! A day stands for all its hours: an id is known for at least 28 days and at most 29. The newest days are
//! kept in memory; older ones, beyond the bound, are searched in their files.
//!
//! If a file is lost, so is the memory of its ids and nothing else; they are hashes of what stands in the
//! tables' columns, so they can be made again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDate, Utc};
use millrace_connector::{ConnectorError, SeenId};
use millrace_state::Store;
use tokio::sync::OnceCell;

use crate::error::{self, Result};
use crate::seen_file;

/// How long an id is known (design §2).
const WINDOW_DAYS: u64 = 28;

/// Ids of one connection in memory, 32 bytes each. Beyond it the oldest days are searched on disk instead.
const MAX_IDS_IN_MEMORY: usize = 8_000_000;

/// Files of a day that are merged into one when there are so many of about one size.
const MERGE_FILES: usize = 32;

/// No merged file grows beyond this, which bounds the memory of a merge.
const MAX_MERGED_IDS: usize = 2_000_000;

/// How often files are listed anew because one of them went while they were read: once for each merged file
/// that is made meanwhile, of which a round makes one or two.
const READ_ATTEMPTS: usize = 16;

/// The seen ids of one connection.
pub(crate) struct Seen {
    store: Store,
    /// Loads from this number on are not whole.
    whole_below: AtomicU64,
    days: OnceCell<Mutex<BTreeMap<NaiveDate, Day>>>,
}

/// A day in memory.
#[derive(Default)]
struct Day {
    /// Sorted runs, the longest first. `None`: on disk only.
    runs: Option<Vec<Vec<SeenId>>>,
}

/// A file's name in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileName {
    day: NaiveDate,
    first: u64,
    last: u64,
}

impl Seen {
    /// `store`: the folder `seen` of the connection.
    pub(crate) fn new(store: Store, whole_below: u64) -> Self {
        Self { store, whole_below: AtomicU64::new(whole_below), days: OnceCell::new() }
    }

    /// The highest load number in a file name, of whatever log.
    pub(crate) async fn highest_number(store: &Store) -> Result<u64> {
        let paths = store.list("").await.map_err(unreadable)?;
        Ok(paths.iter().filter_map(|path| FileName::parse(path)).map(|name| name.last).max().unwrap_or(0))
    }

    /// For each id, the content it was loaded with, if that was within the window before `now`.
    pub(crate) async fn lookup(&self, ids: &[u128], now: DateTime<Utc>) -> Result<Vec<Option<u64>>> {
        let from = oldest_day(now);
        let days = self.days.get_or_try_init(|| self.read_days()).await?;
        let mut found = vec![None; ids.len()];
        let mut on_disk = Vec::new();
        {
            let days = days.lock().unwrap_or_else(PoisonError::into_inner);
            for (day, content) in days.range(from..) {
                let Some(runs) = &content.runs else {
                    on_disk.push(*day);
                    continue;
                };
                for (id, slot) in ids.iter().zip(&mut found).filter(|(_, slot)| slot.is_none()) {
                    *slot = runs.iter().find_map(|run| search(run, *id));
                }
            }
        }
        for day in on_disk {
            self.search_files(day, ids, &mut found).await?;
        }
        Ok(found)
    }

    /// Fills the slots of the ids that the files of a day have.
    async fn search_files(&self, day: NaiveDate, ids: &[u128], found: &mut [Option<u64>]) -> Result<()> {
        'listed: for _ in 0..READ_ATTEMPTS {
            for name in without_merged(self.whole_files(Some(day)).await?) {
                let Some(bytes) = self.read(&name).await? else { continue 'listed };
                for (id, slot) in ids.iter().zip(&mut *found).filter(|(_, slot)| slot.is_none()) {
                    *slot = seen_file::find(&bytes, *id);
                }
            }
            return Ok(());
        }
        Err(merged_meanwhile())
    }

    /// Writes the ids of a load before it is sealed. When the load is done again, the file is there already.
    pub(crate) async fn write(&self, number: u64, at: DateTime<Utc>, ids: &[SeenId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let name = FileName { day: at.date_naive(), first: number, last: number };
        let bytes = seen_file::encode(sorted(ids.to_vec()));
        self.store.create(&name.path(), bytes).await.map_err(unwritable)?;
        Ok(())
    }

    /// Takes the ids of a load that was just sealed into memory. `whole_below`: the number after it.
    pub(crate) fn remember(&self, whole_below: u64, at: DateTime<Utc>, ids: &[SeenId]) {
        self.whole_below.store(whole_below, Ordering::Release);
        // Not read yet: the files will be, with this one among them.
        let Some(days) = self.days.get() else { return };
        if ids.is_empty() {
            return;
        }
        let mut days = days.lock().unwrap_or_else(PoisonError::into_inner);
        let today = at.date_naive();
        if !days.contains_key(&today) {
            join_past_runs(&mut days, today);
        }
        let day = days.entry(today).or_insert_with(|| Day { runs: Some(Vec::new()) });
        if let Some(runs) = &mut day.runs {
            push_run(runs, sorted(ids.to_vec()));
        }
        forget_oldest(&mut days);
    }

    /// Deletes what is older than the window and merges the small files of a day.
    pub(crate) async fn tidy(&self, now: DateTime<Utc>) -> Result<()> {
        let from = oldest_day(now);
        let mut by_day: BTreeMap<NaiveDate, Vec<FileName>> = BTreeMap::new();
        for name in self.whole_files(None).await? {
            if name.day < from {
                self.store.delete(&name.path()).await.map_err(unwritable)?;
            } else {
                by_day.entry(name.day).or_default().push(name);
            }
        }
        if let Some(days) = self.days.get() {
            days.lock().unwrap_or_else(PoisonError::into_inner).retain(|day, _| *day >= from);
        }
        for (_, names) in by_day {
            self.merge(names).await?;
        }
        Ok(())
    }

    async fn merge(&self, mut names: Vec<FileName>) -> Result<()> {
        // Loads per file stands for its size; neighbours in number stay neighbours.
        names.sort_unstable_by_key(|name| name.first);
        for group in names.chunk_by(|a, b| a.size_class() == b.size_class()) {
            for group in group.chunks_exact(MERGE_FILES) {
                let (Some(head), Some(tail)) = (group.first(), group.last()) else { continue };
                let mut ids = Vec::new();
                for name in group {
                    // Another loader, which is to be fenced off yet, has merged them.
                    let Some(bytes) = self.read(name).await? else { return Ok(()) };
                    ids.extend(seen_file::decode(&bytes));
                }
                if ids.len() > MAX_MERGED_IDS {
                    continue;
                }
                let merged = FileName { day: head.day, first: head.first, last: tail.last };
                let bytes = seen_file::encode(sorted(ids));
                self.store.create(&merged.path(), bytes).await.map_err(unwritable)?;
                for name in group {
                    self.store.delete(&name.path()).await.map_err(unwritable)?;
                }
            }
        }
        Ok(())
    }

    async fn read_days(&self) -> Result<Mutex<BTreeMap<NaiveDate, Day>>> {
        for _ in 0..READ_ATTEMPTS {
            if let Some(days) = self.read_days_as_listed().await? {
                return Ok(Mutex::new(days));
            }
        }
        Err(merged_meanwhile())
    }

    /// None if a file went after it was listed.
    async fn read_days_as_listed(&self) -> Result<Option<BTreeMap<NaiveDate, Day>>> {
        let mut names = without_merged(self.whole_files(None).await?);
        // The newest first: they are the ones to keep in memory.
        names.sort_unstable_by_key(|name| std::cmp::Reverse((name.day, name.last)));
        let mut days: BTreeMap<NaiveDate, Day> = BTreeMap::new();
        let mut count = 0;
        for name in names {
            let day = days
                .entry(name.day)
                .or_insert_with(|| Day { runs: (count < MAX_IDS_IN_MEMORY).then(Vec::new) });
            if let Some(runs) = &mut day.runs {
                let Some(bytes) = self.read(&name).await? else { return Ok(None) };
                let ids = seen_file::decode(&bytes);
                count += ids.len();
                push_run(runs, ids);
            }
        }
        if let Some((&newest, _)) = days.last_key_value() {
            join_past_runs(&mut days, newest);
        }
        Ok(Some(days))
    }

    /// The files of a day, or of all, but for those of a load that is not whole.
    async fn whole_files(&self, day: Option<NaiveDate>) -> Result<Vec<FileName>> {
        let folder = day.map(|day| day.to_string()).unwrap_or_default();
        let paths = self.store.list(&folder).await.map_err(unreadable)?;
        let whole_below = self.whole_below.load(Ordering::Acquire);
        let names = paths.iter().filter_map(|path| FileName::parse(path));
        Ok(names.filter(|name| name.last < whole_below).collect())
    }

    /// A file, or none if it is gone. That is no damage: a load tidies while the next one looks its ids up,
    /// and what it deletes, a file that it wrote before has.
    async fn read(&self, name: &FileName) -> Result<Option<Bytes>> {
        let path = name.path();
        let Some(bytes) = self.store.get(&path).await.map_err(unreadable)? else { return Ok(None) };
        if seen_file::is_whole(&bytes) {
            return Ok(Some(bytes));
        }
        let text = format!(
            "the file of seen ids {}/{path} is damaged; delete it: retries of the messages of those loads will \
             then be loaded as new",
            self.store.url()
        );
        Err(ConnectorError::pause("seen_ids", text))
    }
}

impl FileName {
    fn path(&self) -> String {
        if self.first == self.last {
            return format!("{}/{:020}", self.day, self.first);
        }
        format!("{}/{:020}-{:020}", self.day, self.first, self.last)
    }

    fn parse(path: &str) -> Option<Self> {
        let (day, numbers) = path.split_once('/')?;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        Some(Self { day: day.parse().ok()?, first: first.parse().ok()?, last: last.parse().ok()? })
    }

    fn size_class(&self) -> u32 {
        let class_bits = MERGE_FILES.ilog2();
        (self.last - self.first + 1).ilog2() / class_bits
    }
}

/// Leaves out the files that a merged one of the list has all ids of. They are about to go, one by one, and
/// whoever read them would find the next gone each time the files are listed anew.
fn without_merged(mut names: Vec<FileName>) -> Vec<FileName> {
    names.sort_unstable_by_key(|name| (name.day, name.first, std::cmp::Reverse(name.last)));
    names.dedup_by(|name, before| name.day == before.day && name.last <= before.last);
    names
}

fn merged_meanwhile() -> ConnectorError {
    let text = format!("files of seen ids were merged {READ_ATTEMPTS} times while they were read");
    ConnectorError::retry("seen_ids", text)
}

fn oldest_day(now: DateTime<Utc>) -> NaiveDate {
    let today = now.date_naive();
    today.checked_sub_days(Days::new(WINDOW_DAYS)).unwrap_or(today)
}

fn sorted(mut ids: Vec<SeenId>) -> Vec<SeenId> {
    ids.sort_unstable_by_key(|seen| seen.id);
    ids
}

fn search(run: &[SeenId], id: u128) -> Option<u64> {
    let found = run.binary_search_by_key(&id, |seen| seen.id).ok()?;
    run.get(found).map(|seen| seen.content)
}

/// Keeps the runs few: two of about one length become one, as in a binary counter, so that an id is moved
/// a logarithmic number of times.
fn push_run(runs: &mut Vec<Vec<SeenId>>, mut run: Vec<SeenId>) {
    while runs.last().is_some_and(|last| last.len() <= 2 * run.len()) {
        run.extend(runs.pop().unwrap_or_default());
        run = sorted(run);
    }
    runs.push(run);
}

/// One run for each day before `today`: nothing is added to them any more, and each is searched for every
/// id of every load.
fn join_past_runs(days: &mut BTreeMap<NaiveDate, Day>, today: NaiveDate) {
    let past = days.range_mut(..today).filter_map(|(_, day)| day.runs.as_mut());
    for runs in past.filter(|runs| runs.len() > 1) {
        *runs = vec![sorted(runs.concat())];
    }
}

fn forget_oldest(days: &mut BTreeMap<NaiveDate, Day>) {
    let count = |day: &Day| day.runs.iter().flatten().map(Vec::len).sum::<usize>();
    let mut total: usize = days.values().map(count).sum();
    for day in days.values_mut() {
        if total <= MAX_IDS_IN_MEMORY {
            return;
        }
        total -= count(day);
        day.runs = None;
    }
}

fn unreadable(error: millrace_state::StateError) -> ConnectorError {
    error::state("cannot read the seen ids", error)
}

fn unwritable(error: millrace_state::StateError) -> ConnectorError {
    error::state("cannot write the seen ids", error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lookup_while_files_are_merged_finds_every_id() {
        let now = DateTime::UNIX_EPOCH;
        let loads = 10 * MERGE_FILES as u64;
        let ids: Vec<u128> = (1..=loads).map(u128::from).collect();
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path().to_str().unwrap()).unwrap();
            let loader = Seen::new(store.clone(), loads + 1);
            for number in 1..=loads {
                loader.write(number, now, &[SeenId { id: number.into(), content: number }]).await.unwrap();
            }
            let tidied = tokio::spawn(async move { loader.tidy(now).await });
            while !tidied.is_finished() {
                // One that reads all files at first, and one that has the day on disk only.
                let known = Seen::new(store.clone(), loads + 1).lookup(&ids, now).await.unwrap();
                assert!(known.iter().all(Option::is_some));
                let mut known = vec![None; ids.len()];
                let on_disk = Seen::new(store.clone(), loads + 1);
                on_disk.search_files(now.date_naive(), &ids, &mut known).await.unwrap();
                assert!(known.iter().all(Option::is_some));
            }
            tidied.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_no_damage_and_one_that_is_cut_off_is() {
        let store = Store::in_memory();
        let seen = Seen::new(store.clone(), 3);
        let name = FileName { day: DateTime::UNIX_EPOCH.date_naive(), first: 2, last: 2 };
        assert_eq!(seen.read(&name).await.unwrap(), None);
        store.create(&name.path(), Bytes::from_static(b"MRS")).await.unwrap();
        let error = seen.read(&name).await.unwrap_err();
        assert!(error.full().contains("is damaged; delete it"), "{}", error.full());
    }
}
