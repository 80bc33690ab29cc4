//! Ids of the messages that were loaded, for 28 days: `seen/<yyyy-mm-dd>/<N>`.
//!
//! A load writes its ids, as a sorted run, to one [`file`] that carries its number, before it is sealed. Files
//! of loads that are not whole are not consulted: when such a load is done again, its own ids are no duplicates
//! (`ids_of_a_load_that_is_done_again_are_not_duplicates`). [`merges`] says which files of a day become one,
//! that is named by the first and last load in it; the merged file is written before the others go, and an id
//! that is there twice does no harm, so a crash between the two does none either. Whoever finds a file gone
//! that was listed lists again (`a_lookup_while_files_are_merged_finds_every_id`).
//!
//! In memory is the [`index`]: of each file a filter and fences, which answer for nearly every id that is new. Of
//! one that may be a duplicate, the block is read in which it must lie
//! (`what_a_lookup_reads_does_not_grow_with_the_ids_that_are_known`).
//!
//! A day stands for all its hours: an id is known for at least 28 days and at most 29. If a file is lost, so is
//! the memory of its ids and nothing else; they are hashes of what stands in the tables' columns, so they can be
//! made again.

mod file;
mod index;
mod merges;
mod name;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDate, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_connector::seen::{Sieve, Slice, SortedRun, answer, slices};
use millrace_connector::{ConnectorError, SeenId};
use millrace_state::{Creation, Store};

use crate::error::{self, Result};

use self::file::{Beginning, Head};
pub(crate) use self::index::SeenFile;
use self::index::{FILTER_BUDGET, Index};
use self::merges::merges;
use self::name::{FileName, without_merged};

/// How long an id is known (design §2).
const WINDOW_DAYS: u64 = 28;

/// How often files are listed anew because one of them went while they were read: once for each merged file
/// that is made meanwhile, of which a round makes one or two.
const READ_ATTEMPTS: usize = 16;

/// Files that are read at once: each may be asked for 24 MB, where all of a batch are duplicates.
const READS_AT_ONCE: usize = 4;

/// What is read of a file at first: with it comes the filter of a file of 100,000 ids.
const FIRST_READ: u64 = 256 << 10;

/// The seen ids of one connection.
pub(crate) struct Seen {
    store: Store,
    /// Loads from this number on are not whole.
    whole_below: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// `None`: it has not been read yet.
    index: Option<Arc<Index>>,
    /// Rises with whatever a reading that is under way may have missed.
    version: u64,
}

impl Seen {
    /// `store`: the folder `seen` of the connection.
    pub(crate) fn new(store: Store, whole_below: u64) -> Self {
        Self { store, whole_below: AtomicU64::new(whole_below), known: Mutex::default() }
    }

    /// The highest load number in a file name, of whatever log.
    pub(crate) async fn highest_number(store: &Store) -> Result<u64> {
        let paths = store.list("").await.map_err(unreadable)?;
        Ok(paths.iter().filter_map(|path| FileName::parse(path)).map(|name| name.last).max().unwrap_or(0))
    }

    /// For each id, the content it was loaded with, if that was within the window before `now`.
    pub(crate) async fn lookup(&self, ids: &[u128], now: DateTime<Utc>) -> Result<Vec<Option<u64>>> {
        for _ in 0..READ_ATTEMPTS {
            let Some(index) = self.index().await? else { continue };
            if let Some(found) = self.ask(&index.since(oldest_day(now)), ids).await? {
                return Ok(found);
            }
            self.known().index = None;
        }
        Err(merged_meanwhile())
    }

    /// What is known of the files; `None`: one went while they were read, or one came.
    async fn index(&self) -> Result<Option<Arc<Index>>> {
        let version = {
            let known = self.known();
            if let Some(index) = &known.index {
                return Ok(Some(Arc::clone(index)));
            }
            known.version
        };
        let Some(read) = self.read_index().await? else { return Ok(None) };
        let mut known = self.known();
        if known.version != version {
            return Ok(None);
        }
        Ok(Some(Arc::clone(known.index.get_or_insert(Arc::new(read)))))
    }

    async fn read_index(&self) -> Result<Option<Index>> {
        let (names, _) = without_merged(self.whole_files().await?);
        let room = AtomicUsize::new(FILTER_BUDGET);
        // The newest first: their filters are the ones to keep.
        let opened = stream::iter(names.into_iter().rev()).map(async |name| {
            let opened = self.open(&name, room.load(Ordering::Relaxed) > 0).await?;
            let taken =
                opened.as_ref().and_then(|file| file.sieve.as_ref()).map_or(0, |one| one.filter_size());
            let _ = room
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(taken)));
            Ok(opened)
        });
        let files: Vec<Option<SeenFile>> = opened.buffered(READS_AT_ONCE).try_collect().await?;
        Ok(files.into_iter().collect::<Option<Vec<_>>>().map(Index::new))
    }

    /// What is to be known of a file, without its ids; none if it is gone.
    async fn open(&self, name: &FileName, with_sieve: bool) -> Result<Option<SeenFile>> {
        let first = if with_sieve { FIRST_READ } else { file::HEAD as u64 };
        let path = name.path();
        let Some(bytes) = self.store.get_start(&path, first).await.map_err(unreadable)? else {
            return Ok(None);
        };
        let head = match file::beginning(&bytes) {
            Some(Beginning::Head(head)) => head,
            Some(Beginning::IdsAlone) => return self.open_first_version(name, with_sieve).await,
            None => return Err(self.damaged(name)),
        };
        let mut opened = SeenFile { name: *name, records: head.records, ids_at: head.ids(), sieve: None };
        if with_sieve {
            let sieve = match bytes.get(head.sieve()) {
                Some(sieve) => head.sieve_of(sieve),
                None => {
                    let Some(sieve) = self.read_sieve(&path, &head).await? else { return Ok(None) };
                    head.sieve_of(&sieve)
                }
            };
            opened.sieve = Some(Arc::new(sieve.ok_or_else(|| self.damaged(name))?));
        }
        Ok(Some(opened))
    }

    async fn read_sieve(&self, path: &str, head: &Head) -> Result<Option<Bytes>> {
        let place = head.sieve();
        let range = place.start as u64..place.end as u64;
        let parts = self.store.get_ranges(path, std::slice::from_ref(&range)).await.map_err(unreadable)?;
        Ok(parts.and_then(|parts| parts.into_iter().next()))
    }

    async fn open_first_version(&self, name: &FileName, with_sieve: bool) -> Result<Option<SeenFile>> {
        let Some(run) = self.read(name).await? else { return Ok(None) };
        let sieve = with_sieve.then(|| Arc::new(Sieve::of(&run)));
        Ok(Some(SeenFile { name: *name, records: run.len(), ids_at: file::IDS_ALONE, sieve }))
    }

    /// None if a file is gone.
    async fn ask(&self, index: &Index, ids: &[u128]) -> Result<Option<Vec<Option<u64>>>> {
        let mut found = vec![None; ids.len()];
        let mut asked =
            stream::iter(index.files().to_vec()).map(|file| self.ask_file(file, ids)).buffered(READS_AT_ONCE);
        while let Some(answers) = asked.try_next().await? {
            let Some(answers) = answers else { return Ok(None) };
            for (slice, records) in answers {
                answer(&slice, &records, ids, &mut found);
            }
        }
        Ok(Some(found))
    }

    /// The records among which the ids are, if they are in this file.
    async fn ask_file(&self, file: SeenFile, ids: &[u128]) -> Result<Option<Vec<(Slice, Bytes)>>> {
        let sieve = match &file.sieve {
            Some(sieve) => Arc::clone(sieve),
            None => match self.open(&file.name, true).await?.and_then(|file| file.sieve) {
                Some(sieve) => sieve,
                None => return Ok(None),
            },
        };
        let slices = slices(&sieve, ids);
        if slices.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let in_file = |slice: &Slice| {
            let bytes = slice.bytes();
            (file.ids_at + bytes.start) as u64..(file.ids_at + bytes.end) as u64
        };
        let ranges: Vec<_> = slices.iter().map(in_file).collect();
        let parts = self.store.get_ranges(&file.name.path(), &ranges).await.map_err(unreadable)?;
        Ok(parts.map(|parts| slices.into_iter().zip(parts).collect()))
    }

    /// Writes the ids of a load before it is sealed, and returns what to remember of them. When the load is done
    /// again, the file is there already.
    pub(crate) async fn write(
        &self,
        number: u64,
        at: DateTime<Utc>,
        ids: &[SeenId],
    ) -> Result<Option<SeenFile>> {
        if ids.is_empty() {
            return Ok(None);
        }
        let name = FileName { day: at.date_naive(), first: number, last: number };
        let (written, creation) = self.create(name, &SortedRun::of(ids.to_vec())).await?;
        match creation {
            Creation::Won => Ok(Some(written)),
            Creation::Lost => self.open(&name, true).await,
        }
    }

    async fn create(&self, name: FileName, run: &SortedRun) -> Result<(SeenFile, Creation)> {
        let sieve = Sieve::of(run);
        let bytes = file::encode(run, &sieve);
        let ids_at = bytes.len() - run.as_bytes().len();
        let creation = self.store.create(&name.path(), bytes).await.map_err(unwritable)?;
        Ok((SeenFile { name, records: run.len(), ids_at, sieve: Some(Arc::new(sieve)) }, creation))
    }

    /// Takes the file of a load that was just sealed into account. `whole_below`: the number after it.
    pub(crate) fn remember(&self, whole_below: u64, written: Option<SeenFile>) {
        let mut known = self.known();
        self.whole_below.store(whole_below, Ordering::Release);
        known.version += 1;
        // Not read yet: the files will be, with this one among them.
        if let (Some(index), Some(written)) = (&known.index, written) {
            known.index = Some(Arc::new(index.with(written, &[])));
        }
    }

    /// Deletes what is older than the window and merges the small files of a day.
    pub(crate) async fn tidy(&self, now: DateTime<Utc>) -> Result<()> {
        let from = oldest_day(now);
        let (names, merged) = without_merged(self.whole_files().await?);
        for name in names.iter().filter(|name| name.day < from).chain(&merged) {
            self.store.delete(&name.path()).await.map_err(unwritable)?;
        }
        // Nobody has asked yet, or files change: the next round comes.
        let Some(index) = self.index().await? else { return Ok(()) };
        for group in merges(&index.since(from).sizes(), now.date_naive()) {
            self.merge(&group).await?;
        }
        let mut known = self.known();
        known.version += 1;
        known.index = known.index.as_ref().map(|index| Arc::new(index.since(from)));
        Ok(())
    }

    /// Makes one file of neighbours.
    async fn merge(&self, group: &[FileName]) -> Result<()> {
        let (Some(head), Some(tail)) = (group.first(), group.last()) else { return Ok(()) };
        let mut runs = Vec::with_capacity(group.len());
        for name in group {
            // Another loader, which is to be fenced off yet, has merged them.
            let Some(run) = self.read(name).await? else { return Ok(()) };
            runs.push(run);
        }
        let name = FileName { day: head.day, first: head.first, last: tail.last };
        let (merged, _) = self.create(name, &SortedRun::merge(&runs)).await?;
        {
            let mut known = self.known();
            known.version += 1;
            known.index = known.index.as_ref().map(|index| Arc::new(index.with(merged, group)));
        }
        for name in group {
            self.store.delete(&name.path()).await.map_err(unwritable)?;
        }
        Ok(())
    }

    /// All files but for those of a load that is not whole.
    async fn whole_files(&self) -> Result<Vec<FileName>> {
        let paths = self.store.list("").await.map_err(unreadable)?;
        let whole_below = self.whole_below.load(Ordering::Acquire);
        let names = paths.iter().filter_map(|path| FileName::parse(path));
        Ok(names.filter(|name| name.last < whole_below).collect())
    }

    /// The ids of a file, or none if it is gone. That is no damage: a load tidies while the next one looks its
    /// ids up, and what it deletes, a file that it wrote before has.
    async fn read(&self, name: &FileName) -> Result<Option<SortedRun>> {
        let Some(bytes) = self.store.get(&name.path()).await.map_err(unreadable)? else { return Ok(None) };
        file::run_of(&bytes).map(Some).ok_or_else(|| self.damaged(name))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, name: &FileName) -> ConnectorError {
        let text = format!(
            "the file of seen ids {}/{} is damaged; delete it: retries of the messages of those loads will then be \
             loaded as new",
            self.store.url(),
            name.path()
        );
        ConnectorError::pause("seen_ids", text)
    }
}

fn merged_meanwhile() -> ConnectorError {
    let text = format!("files of seen ids were merged {READ_ATTEMPTS} times while they were read");
    ConnectorError::retry("seen_ids", text)
}

fn oldest_day(now: DateTime<Utc>) -> NaiveDate {
    let today = now.date_naive();
    today.checked_sub_days(Days::new(WINDOW_DAYS)).unwrap_or(today)
}

fn unreadable(error: millrace_state::StateError) -> ConnectorError {
    error::state("cannot read the seen ids", error)
}

fn unwritable(error: millrace_state::StateError) -> ConnectorError {
    error::state("cannot write the seen ids", error)
}

#[cfg(test)]
mod tests;
