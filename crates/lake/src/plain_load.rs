//! One loader's attempt at a load into plain files: see `files` for what makes it happen once.

use std::cmp::Ordering;
use std::sync::Arc;

use millrace_connector::{Load, LoadReport};
use millrace_event_model::ConnectionId;

use crate::error::Result;
use crate::files::Files;
use crate::intent_log::{Cursor, Intent, IntentLog};
use crate::table_work::on_busy_thread;

/// An attempt. `again`: the load began before, perhaps in another process.
pub(crate) struct Attempt<'a> {
    pub(crate) files: &'a Arc<Files>,
    pub(crate) log: IntentLog,
    pub(crate) connection: &'a ConnectionId,
    pub(crate) intent: &'a Intent,
    pub(crate) again: bool,
}

impl Attempt<'_> {
    /// Writes the files, before the load is sealed.
    pub(crate) async fn write(&self, cursor: &Cursor, load: Load) -> Result<LoadReport> {
        if self.again {
            self.log.check_ours(cursor, self.intent).await?;
        }
        let id = cursor.load_id(self.connection, self.intent);
        let (files, of_load) = (Arc::clone(self.files), id.clone());
        let written = on_busy_thread(async move { files.write(&of_load, load.tables).await });
        let (report, written) = written.await?;
        if self.again {
            self.files.delete_remains(&id, &written).await?;
        }
        Ok(report)
    }

    /// Deletes the files of attempts that lost, once the load is sealed.
    ///
    /// # Errors
    /// This attempt lost.
    pub(crate) async fn settle(&self, cursor: &Cursor, sealer: u64) -> Result<()> {
        if self.again || sealer != cursor.epoch {
            let id = cursor.load_id(self.connection, self.intent);
            if let Err(error) = self.files.delete_others(&id, sealer).await {
                let connection = self.connection;
                tracing::warn!(%connection, error = %error.full(), "cannot delete files that no query reads");
            }
        }
        match sealer.cmp(&cursor.epoch) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(self.log.done_by_another(self.intent)),
            Ordering::Greater => Err(self.log.fenced_off(cursor.epoch, sealer)),
        }
    }
}
