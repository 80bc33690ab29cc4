//! Files in a folder or an object store: S3, Google Cloud Storage, Azure Blob Storage, or what speaks one of
//! these. Each batch is a file of rows, one for each event or change.
//!
//! No HTTP is spoken here by us, but a row is written in the terms of a request, so that a preview shows it:
//! the method is `PUT`, the address the folder that its file goes to, the body the row.
//!
//! A file is named by the items in it, so a batch that is sent again writes over itself. Items that come
//! back in another batch are in two files, each under the id that tells so.

mod config;
mod failure;
mod file;
mod map;
mod rudder;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use millrace_connector::{
    ConnectorError, Context, Destination, DestinationEntry, DisplayName, HttpRequest, Item, ItemOutcome,
    Limits, Prepared, RequestBody,
};
use millrace_event_model::Reason;
use millrace_state::object_store::Error as ObjectError;
use millrace_state::{StateError, Store};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

pub use config::{Format, Settings};
use failure::{refusal, transient};
use file::Row;

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    let summary = "Files of NDJSON or Parquet in S3, Google Cloud Storage, Azure or a folder";
    DestinationEntry::new("object_storage", summary, config::schema, |settings, context| {
        Ok(Arc::new(ObjectStorage::new(settings, context)?))
    })
    .with_rudder("S3", DISPLAY_NAMES.iter().cloned(), rudder::settings)
}

/// At RudderStack each store is a destination of its own.
const DISPLAY_NAMES: &[DisplayName] = &[
    DisplayName::at("Amazon S3", &["s3", "s3a"]),
    DisplayName::at("Google Cloud Storage", &["gs"]),
    DisplayName::at("Azure Blob Storage", &["az", "azure", "adl", "abfs", "abfss"]),
];

/// Rows of one file at most: with two files under way, as many as deliver's window holds.
const FILE_ROWS: usize = 5_000;

/// Bytes of a file's rows at most, before compression: a quarter of what deliver holds.
const FILE_BYTES: usize = 16 * 1024 * 1024;

/// Files that are written at once: while one is uploaded the next is filled.
const CONCURRENCY: usize = 2;

/// Files of one call that are written at once. Events that come late lie in many hours, each a file of its
/// own; one after the other these would not be done in time.
const WRITES: usize = 8;

/// When a call is to be done.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    /// No file is begun later than this after the call: its items come back in another batch.
    begin: Duration,
    /// What is not written by then comes back too. Its file may be there all the same.
    finish: Duration,
}

/// The store tries for half a minute itself.
const DEADLINES: Deadlines = Deadlines { begin: Duration::from_secs(50), finish: Duration::from_secs(85) };

/// What deliver waits: longer than the destination itself, which knows what has been written.
const TIMEOUT: Duration = Duration::from_secs(90);

/// One place for files.
#[derive(Debug)]
pub struct ObjectStorage {
    settings: Settings,
    store: Store,
}

impl ObjectStorage {
    /// Reads the settings. Nothing is connected or made yet.
    ///
    /// # Errors
    /// `Pause`: the settings are not right.
    pub fn new(settings: &Value, context: &Context) -> Result<Self, ConnectorError> {
        let settings = config::parse(settings, &context.id)?;
        let store = Store::reach(&settings.url, &settings.options()).map_err(|error| {
            let told =
                format!("settings of destination {:?}: url or storage_options are not right", context.id);
            ConnectorError::pause("invalid_settings", told).caused_by(error)
        })?;
        // A file that is reported as written is on the disk.
        Ok(Self { settings, store: store.synced() })
    }

    async fn write(&self, folder: String, rows: Vec<Row>) -> ItemOutcome {
        let format = self.settings.format;
        let path = format!("{folder}/{}", file::name(&rows, format));
        // Compressing a file takes long enough to hold up others.
        let encoded = tokio::task::spawn_blocking(move || file::encode(&rows, format)).await;
        let bytes = match encoded {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return ItemOutcome::Unclear(Reason::new("unwritable_rows", error)),
            // The runtime shuts down.
            Err(_) => return transient("stopped", "the process is stopping".to_owned()),
        };
        match self.store.put(&path, bytes).await {
            Ok(()) => ItemOutcome::Delivered,
            Err(error) => refusal(error),
        }
    }
}

#[async_trait]
impl Destination for ObjectStorage {
    async fn check(&self) -> Result<(), ConnectorError> {
        match self.store.folders("").await {
            Ok(_) => Ok(()),
            // A folder is made when something is written to it.
            Err(StateError::Store { source: ObjectError::NotFound { .. }, .. })
                if self.store.folder().is_some() =>
            {
                Ok(())
            }
            Err(error) => {
                let told = format!("{} cannot be listed", self.store.url());
                Err(ConnectorError::pause("store_unreachable", told).caused_by(error))
            }
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            max_items: FILE_ROWS,
            max_bytes: FILE_BYTES,
            max_wait: Duration::from_secs(self.settings.wait_seconds),
            concurrency: CONCURRENCY,
            timeout: TIMEOUT,
            rate: None,
            // A row has its own time, and a file is not read in order.
            ordered: false,
            together: false,
        }
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        Ok(vec![map::row(item)?])
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        let count = batch.len();
        let mut writes = Vec::new();
        for (folder, items, rows) in by_folder(batch) {
            writes.push((items, self.write(folder, rows)));
        }
        outcomes(count, writes, DEADLINES).await
    }
}

/// What became of `count` items, of writes that each have several of them: some at once, as far as the time
/// goes.
async fn outcomes<W>(count: usize, writes: Vec<(Vec<usize>, W)>, deadlines: Deadlines) -> Vec<ItemOutcome>
where
    W: Future<Output = ItemOutcome> + Send,
{
    let late = "the batch has more files than are written in its time; the rest comes in another batch";
    let mut outcomes = vec![transient("not_written_in_time", late.to_owned()); count];
    let called = Instant::now();
    let mut under_way = Vec::with_capacity(writes.len());
    for (items, write) in writes {
        // Polled for the first time when its turn comes.
        under_way.push(async move {
            if called.elapsed() >= deadlines.begin {
                return None;
            }
            Some((items, write.await))
        });
    }
    let mut done = stream::iter(under_way).buffer_unordered(WRITES);
    while let Ok(Some(written)) = timeout_at(called + deadlines.finish, done.next()).await {
        let Some((items, outcome)) = written else { continue };
        for item in items {
            if let Some(place) = outcomes.get_mut(item) {
                *place = outcome.clone();
            }
        }
    }
    outcomes
}

/// A folder, the places in the batch of the items that go there, and their rows.
type Group = (String, Vec<usize>, Vec<Row>);

fn by_folder(batch: Vec<Prepared>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (item, prepared) in batch.into_iter().enumerate() {
        // One row for each item: `transform` makes no more and no less.
        for HttpRequest { url: folder, body, .. } in prepared.requests {
            let line = match body {
                RequestBody::Json(bytes) => bytes,
                _ => Bytes::new(),
            };
            let row = Row { id: prepared.id.to_string(), line };
            match groups.iter_mut().find(|(known, ..)| *known == folder) {
                Some((_, items, rows)) => {
                    items.push(item);
                    rows.push(row);
                }
                None => groups.push((folder, vec![item], vec![row])),
            }
        }
    }
    groups
}
