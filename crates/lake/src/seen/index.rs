//! What is kept in memory of the files of seen ids.

use std::sync::Arc;

use chrono::NaiveDate;
use millrace_connector::seen::Sieve;

use super::name::FileName;

/// What the filters of one connection may take in memory: 28 million ids. Those of the oldest files are read again
/// for each load beyond that, 2.3 bytes an id: a load is slower, and as right.
pub(crate) const FILTER_BUDGET: usize = 64 << 20;

/// A file of ids.
#[derive(Debug, Clone)]
pub(crate) struct SeenFile {
    pub(crate) name: FileName,
    /// How many ids it has.
    pub(crate) records: usize,
    /// Where in the file they begin.
    pub(crate) ids_at: usize,
    /// `None`: there is no room for it.
    pub(crate) sieve: Option<Arc<Sieve>>,
}

/// The files of a connection, in the order of days and loads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index(Vec<SeenFile>);

impl Index {
    pub(crate) fn new(mut files: Vec<SeenFile>) -> Self {
        files.sort_unstable_by_key(|file| (file.name.day, file.name.first));
        let mut room = FILTER_BUDGET;
        for file in files.iter_mut().rev() {
            let size = file.sieve.as_ref().map_or(0, |sieve| sieve.filter_size());
            match room.checked_sub(size) {
                Some(left) => room = left,
                None => file.sieve = None,
            }
        }
        Self(files)
    }

    /// The same with one file more in the place of others.
    pub(crate) fn with(&self, new: SeenFile, gone: &[FileName]) -> Self {
        let kept = self.0.iter().filter(|file| !gone.contains(&file.name) && file.name != new.name).cloned();
        Self::new(kept.chain([new.clone()]).collect())
    }

    /// The same without the days before this one.
    pub(crate) fn since(&self, first: NaiveDate) -> Self {
        Self(self.0.iter().filter(|file| file.name.day >= first).cloned().collect())
    }

    pub(crate) fn files(&self) -> &[SeenFile] {
        &self.0
    }

    /// Each file with the number of its ids.
    pub(crate) fn sizes(&self) -> Vec<(FileName, usize)> {
        self.0.iter().map(|file| (file.name, file.records)).collect()
    }
}
