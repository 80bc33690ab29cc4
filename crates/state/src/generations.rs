//! The one primitive: create-if-absent of `<root>/<number>`.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Creation, StateError, Store};

/// Digits of a number in a path: enough for any u64, so that the order of names is that of numbers.
const DIGITS: usize = 20;

/// How often [`Generations::latest`] lists again when the generation it saw was pruned before it was
/// read. Each time needs a writer that appended and pruned in between.
const LATEST_ATTEMPTS: usize = 8;

/// Numbered JSON values of which the highest is the present one.
///
/// Numbers need not be dense. A value never changes once written, and the latest is never pruned. From
/// these two follows that [`Self::append`] is a fence: whoever appends a number that someone had before,
/// even if that one has been pruned since, sees a higher number and loses.
#[derive(Debug)]
pub struct Generations<T> {
    store: Store,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for Generations<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), holds: PhantomData }
    }
}

/// A value and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation<T> {
    /// Its number.
    pub number: u64,
    /// What was written.
    pub value: T,
}

impl<T: Serialize + DeserializeOwned> Generations<T> {
    /// The generations directly under the root of `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, holds: PhantomData }
    }

    /// The highest, or none yet.
    ///
    /// # Errors
    /// The store cannot be read, or the value is not a `T`.
    pub async fn latest(&self) -> Result<Option<Generation<T>>, StateError> {
        for _ in 0..LATEST_ATTEMPTS {
            let Some(number) = self.numbers().await?.pop() else { return Ok(None) };
            if let Some(value) = self.get(number).await? {
                return Ok(Some(Generation { number, value }));
            }
        }
        Err(StateError::Malformed {
            path: self.store.url(),
            problem: "its latest generation was deleted again and again while it was read".to_owned(),
        })
    }

    /// Writes generation `number`.
    ///
    /// # Errors
    /// [`StateError::Lost`]: it, or a higher one, is there already. Any other error: it is unknown whether
    /// the generation is there now; read the latest to find out.
    pub async fn append(&self, number: u64, value: &T) -> Result<(), StateError> {
        let path = path(number);
        let bytes =
            serde_json::to_vec(value).map_err(|source| StateError::Encode { path: path.clone(), source })?;
        if self.store.create(&path, Bytes::from(bytes)).await? == Creation::Lost {
            return Err(StateError::Lost { number });
        }
        // The number may have been taken and pruned before: then a higher one is there, for the latest is
        // never pruned.
        if self.numbers().await?.last().is_some_and(|&latest| latest > number) {
            self.store.delete(&path).await?;
            return Err(StateError::Lost { number });
        }
        Ok(())
    }

    /// One generation, or none: it was never written, or has been pruned.
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub async fn get(&self, number: u64) -> Result<Option<T>, StateError> {
        let path = path(number);
        let Some(bytes) = self.store.get(&path).await? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(StateError::Malformed {
                path: format!("{}/{path}", self.store.url()),
                // Where, but not what: serde_json quotes the content in some of its texts.
                problem: format!("not the expected JSON, at line {} column {}", error.line(), error.column()),
            }),
        }
    }

    /// Deletes all below `keep_from`, but never the latest.
    ///
    /// # Errors
    /// The store cannot be listed or written. What was deleted stays deleted.
    pub async fn prune(&self, keep_from: u64) -> Result<(), StateError> {
        let mut numbers = self.numbers().await?;
        numbers.pop();
        for number in numbers.into_iter().take_while(|&number| number < keep_from) {
            self.store.delete(&path(number)).await?;
        }
        Ok(())
    }

    /// All numbers that are there, ascending. What is not named like a generation is left alone.
    async fn numbers(&self) -> Result<Vec<u64>, StateError> {
        let paths = self.store.list("").await?;
        Ok(paths.iter().filter_map(|path| number(path)).collect())
    }
}

fn path(number: u64) -> String {
    format!("{number:0DIGITS$}")
}

fn number(path: &str) -> Option<u64> {
    let named_so = path.len() == DIGITS && path.bytes().all(|byte| byte.is_ascii_digit());
    if named_so { path.parse().ok() } else { None }
}
