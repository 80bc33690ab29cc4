//! Files in a folder or an object store: S3, Google Cloud Storage, Azure Blob Storage, or what speaks one of
//! these. Each batch is a file of rows, one for each event or change.
//!
//! No HTTP is spoken here by us, but a row is written in the terms of a request, so that a preview shows it:
//! the method is `PUT`, the address the folder that its file goes to, the body the row.
//!
//! A file is named by the items in it, so a batch that is sent again writes over itself. Items that come
//! back in another batch are in two files, each under the id that tells so.

mod config;
mod file;
mod map;
mod rudder;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_connector::{
    ConnectorError, Context, Destination, DestinationEntry, HttpRequest, Item, ItemOutcome, Limits, Prepared,
    RequestBody,
};
use millrace_event_model::Reason;
use millrace_state::object_store::Error as ObjectError;
use millrace_state::{StateError, Store};
use serde_json::Value;

pub use config::{Format, Settings};
use file::Row;

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    let summary = "Files of NDJSON or Parquet in S3, Google Cloud Storage, Azure or a folder";
    DestinationEntry::new("object_storage", summary, config::schema, |settings, context| {
        Ok(Arc::new(ObjectStorage::new(settings, context)?))
    })
    .with_rudder("S3", rudder::settings)
}

/// Rows of one file at most: with two files under way, as many as deliver's window holds.
const FILE_ROWS: usize = 5_000;

/// Bytes of a file's rows at most, before compression: a quarter of what deliver holds.
const FILE_BYTES: usize = 16 * 1024 * 1024;

/// Files that are written at once: while one is uploaded the next is filled.
const CONCURRENCY: usize = 2;

/// The store tries for half a minute itself; what takes longer than this is tried again in another batch.
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

    async fn write(&self, folder: &str, rows: Vec<Row>) -> ItemOutcome {
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
        }
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        Ok(vec![map::row(item)?])
    }

    async fn deliver(&self, batch: Vec<Prepared>) -> Vec<ItemOutcome> {
        let mut outcomes = vec![ItemOutcome::Delivered; batch.len()];
        for (folder, items, rows) in by_folder(batch) {
            let outcome = self.write(&folder, rows).await;
            for item in items {
                if let Some(place) = outcomes.get_mut(item) {
                    *place = outcome.clone();
                }
            }
        }
        outcomes
    }
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
            let row = Row { id: prepared.id.clone(), line };
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

/// What becomes of the items of a file that was not written.
fn refusal(error: StateError) -> ItemOutcome {
    let refused = matches!(
        &error,
        StateError::Store {
            source: ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. },
            ..
        }
    );
    let missing = matches!(&error, StateError::Store { source: ObjectError::NotFound { .. }, .. });
    let told = ConnectorError::pause("", "the file is not written").caused_by(error).full();
    match (refused, missing) {
        (true, _) => ItemOutcome::Auth(Reason::new("credentials_refused", told)),
        // The bucket or container.
        (_, true) => ItemOutcome::Config(Reason::new("store_missing", told)),
        _ => transient("store_unreachable", told),
    }
}

fn transient(code: &str, told: String) -> ItemOutcome {
    ItemOutcome::Transient { after: None, reason: Reason::new(code, told) }
}
