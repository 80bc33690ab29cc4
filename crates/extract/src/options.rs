//! What the service is told at start.

use std::sync::Arc;
use std::time::Duration;

use millrace_connector::Source;
use millrace_event_model::{KeyHasher, Lane, SourceId};
use millrace_privacy::Scanner;
use millrace_service::Schedule;

/// Settings of the extract stage.
pub struct Options {
    /// The sources to read.
    pub sources: Vec<SourceOptions>,
    /// Names this process in leases.
    pub holder: String,
    /// How long a dead process keeps others from reading its sources.
    pub lease_ttl: Duration,
    /// Makes the keys of rows.
    pub keys: KeyHasher,
}

/// One source.
#[derive(Clone)]
pub struct SourceOptions {
    /// Its id.
    pub id: SourceId,
    /// Its lane of the records topic.
    pub lane: Lane,
    /// The connector.
    pub source: Arc<dyn Source>,
    /// When it is read.
    pub schedule: Schedule,
    /// Finds and masks personal data in rows before they are published; `None` keeps rows as they are.
    pub privacy: Option<Arc<Scanner>>,
}
