//! A log of runs that stays small: what was done, when, and how it ended.
//!
//! ```text
//!   open/<slot>                          the run that may still change, written anew in place
//!   single/<id>                          a run that is over
//!   merged/<first>_<last>_<count>        many of them, a line each
//! ```
//! Ids sort by time. Singles become one file when there are [`SINGLES`] of them, and files of that size one
//! larger file when there are [`SMALL_FILES`]; the oldest of the large files go when there are more than
//! [`LARGE_FILES`]. So a run costs about three small writes, and a log that never stops holds at most about
//! [`MOST_RUNS`] runs in about a hundred objects.
//!
//! Nothing is ever changed but an open run: a merger writes the new file and only then deletes what is in it.
//! Whoever dies in between leaves runs that are there twice, and readers take each id once; so two writers,
//! one of which does not know yet that its lease is gone, do no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{StateError, Store};

/// So many singles become one small file: an hour of a connection that has a run a minute.
const SINGLES: usize = 60;

/// So many small files become one large file: a day of it.
const SMALL_FILES: usize = 24;

/// A file with so many runs is large.
const LARGE: usize = SINGLES * SMALL_FILES;

/// So many large files are kept; the oldest beyond them is deleted.
const LARGE_FILES: usize = 14;

/// About how many runs a log holds at most, some 15 MB of them.
pub const MOST_RUNS: usize = LARGE * (LARGE_FILES + 1);

/// How often a reader lists again because what it saw was merged before it was read.
const READ_ATTEMPTS: usize = 8;

/// Runs of one subject, each a JSON value of type `T`.
#[derive(Debug)]
pub struct RunLog<T> {
    store: Store,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for RunLog<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), holds: PhantomData }
    }
}

/// A line of a merged file, and what a single or an open run holds.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    id: String,
    run: T,
}

impl<T: Serialize + DeserializeOwned> RunLog<T> {
    /// The log directly under the root of `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, holds: PhantomData }
    }

    /// Writes the run that may still change, in place of the slot's former one. A slot is whatever acts by
    /// itself on this subject: each has at most one open run.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn put_open(&self, slot: &str, id: &str, run: &T) -> Result<(), StateError> {
        let path = open_path(slot);
        let bytes = encode(&path, id, run)?;
        self.store.put(&path, bytes).await
    }

    /// The open run of a slot, which a former process may have left.
    ///
    /// # Errors
    /// The store cannot be read, or the run is not a `T`.
    pub async fn open(&self, slot: &str) -> Result<Option<(String, T)>, StateError> {
        let path = open_path(slot);
        let Some(bytes) = self.store.get(&path).await? else { return Ok(None) };
        let line: Line<T> = decode(&path, &bytes)?;
        Ok(Some((line.id, line.run)))
    }

    /// Ends a run: it is in the log from here on, and no longer open.
    ///
    /// # Errors
    /// The store cannot be read or written. The run may be in the log all the same; ending it again is
    /// harmless.
    pub async fn close(&self, slot: &str, id: &str, run: &T) -> Result<(), StateError> {
        let path = single_path(id);
        let bytes = encode(&path, id, run)?;
        self.store.put(&path, bytes).await?;
        self.store.delete(&open_path(slot)).await?;
        self.tidy().await
    }

    /// The runs whose ids are `from` or later, oldest first; those that are open as they were written last.
    ///
    /// # Errors
    /// The store cannot be read, or a run is not a `T`.
    pub async fn since(&self, from: &str) -> Result<Vec<(String, T)>, StateError> {
        for _ in 0..READ_ATTEMPTS {
            if let Some(runs) = self.read(from).await? {
                return Ok(runs.into_iter().collect());
            }
        }
        Err(StateError::Malformed {
            path: self.store.url(),
            problem: "its runs were merged again and again while they were read".to_owned(),
        })
    }

    /// None: a file was merged while the others were read.
    async fn read(&self, from: &str) -> Result<Option<BTreeMap<String, T>>, StateError> {
        let mut runs = BTreeMap::new();
        // Open runs first: the same id closed is newer.
        for path in self.store.list("open").await? {
            // One that is gone has been closed, and is found below.
            if let Some(bytes) = self.store.get(&path).await? {
                let line: Line<T> = decode(&path, &bytes)?;
                runs.insert(line.id, line.run);
            }
        }
        let files = Files::of(&self.store.list("").await?);
        for file in files.merged.iter().filter(|file| file.last.as_str() >= from) {
            let Some(bytes) = self.store.get(&file.path()).await? else { return Ok(None) };
            for line in lines::<T>(&file.path(), &bytes)? {
                runs.insert(line.id, line.run);
            }
        }
        for id in files.singles.iter().filter(|id| id.as_str() >= from) {
            let path = single_path(id);
            let Some(bytes) = self.store.get(&path).await? else { return Ok(None) };
            let line: Line<T> = decode(&path, &bytes)?;
            runs.insert(line.id, line.run);
        }
        runs.retain(|id, _| id.as_str() >= from);
        Ok(Some(runs))
    }

    /// Merges what has become many, and forgets what has become old.
    async fn tidy(&self) -> Result<(), StateError> {
        let files = Files::of(&self.store.list("").await?);
        if let Some(paths) = files.to_merge() {
            self.merge(&paths).await?;
        }
        for file in files.too_old() {
            self.store.delete(&file.path()).await?;
        }
        Ok(())
    }

    async fn merge(&self, paths: &[String]) -> Result<(), StateError> {
        // As text: what a newer version has written stays as it is.
        let mut kept = BTreeMap::new();
        for path in paths {
            // Someone else merges the same runs: then that one deletes them.
            let Some(bytes) = self.store.get(path).await? else { return Ok(()) };
            for text in bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
                let line: Line<serde::de::IgnoredAny> = decode(path, text)?;
                kept.insert(line.id, Bytes::copy_from_slice(text));
            }
        }
        let (Some(first), Some(last)) = (kept.keys().next(), kept.keys().next_back()) else { return Ok(()) };
        let file = Merged { first: first.clone(), last: last.clone(), count: kept.len() };
        let mut bytes = BytesMut::new();
        for text in kept.values() {
            bytes.put_slice(text);
            bytes.put_u8(b'\n');
        }
        self.store.put(&file.path(), bytes.freeze()).await?;
        for path in paths.iter().filter(|path| **path != file.path()) {
            self.store.delete(path).await?;
        }
        Ok(())
    }
}

/// What a log consists of, by name alone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Files {
    /// Ids.
    singles: BTreeSet<String>,
    /// By their first id.
    merged: BTreeSet<Merged>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Merged {
    first: String,
    last: String,
    count: usize,
}

impl Merged {
    fn of(name: &str) -> Option<Self> {
        let mut parts = name.rsplitn(3, '_');
        let count = parts.next()?.parse().ok()?;
        let (last, first) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(Self { first, last, count })
    }

    fn path(&self) -> String {
        format!("merged/{}_{}_{}", self.first, self.last, self.count)
    }
}

impl Files {
    /// What is not named like a part of a log is left alone.
    fn of(paths: &[String]) -> Self {
        let mut files = Self::default();
        for path in paths {
            if let Some(id) = path.strip_prefix("single/") {
                files.singles.insert(id.to_owned());
            }
            files.merged.extend(path.strip_prefix("merged/").and_then(Merged::of));
        }
        files
    }

    /// The files that are to become one now.
    fn to_merge(&self) -> Option<Vec<String>> {
        if self.singles.len() >= SINGLES {
            return Some(self.singles.iter().map(|id| single_path(id)).collect());
        }
        let small: Vec<String> =
            self.merged.iter().filter(|file| file.count < LARGE).map(Merged::path).collect();
        (small.len() >= SMALL_FILES).then_some(small)
    }

    /// The large files beyond those that are kept.
    fn too_old(&self) -> Vec<&Merged> {
        let large: Vec<&Merged> = self.merged.iter().filter(|file| file.count >= LARGE).collect();
        let beyond = large.len().saturating_sub(LARGE_FILES);
        large.into_iter().take(beyond).collect()
    }
}

fn open_path(slot: &str) -> String {
    format!("open/{slot}")
}

fn single_path(id: &str) -> String {
    format!("single/{id}")
}

fn encode<T: Serialize>(path: &str, id: &str, run: &T) -> Result<Bytes, StateError> {
    let line = Line { id: id.to_owned(), run };
    let bytes = serde_json::to_vec(&line);
    bytes.map(Bytes::from).map_err(|source| StateError::Encode { path: path.to_owned(), source })
}

fn decode<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<Line<T>, StateError> {
    serde_json::from_slice(bytes).map_err(|error| StateError::Malformed {
        path: path.to_owned(),
        problem: format!("not a run, at line {} column {}", error.line(), error.column()),
    })
}

fn lines<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<Vec<Line<T>>, StateError> {
    let texts = bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty());
    texts.map(|text| decode(path, text)).collect()
}

#[cfg(test)]
mod tests;
