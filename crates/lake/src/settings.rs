//! The settings of a lake, and its line in the list of warehouses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::TimeDelta;
use millrace_connector::{ConnectorError, Context, DisplayName, Warehouse, WarehouseEntry};
use millrace_service::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Lake;

/// What a lake keeps of old versions at the least: shorter than this, a slow query loses its files.
const MIN_KEPT: TimeDelta = TimeDelta::minutes(10);

/// What the tables of a lake are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LakeFormat {
    /// Delta tables: rows can change, small files are compacted, and whoever reads sees whole versions.
    #[default]
    Delta,
    /// Plain Parquet files, for those who want no table format: rows are only ever added, files are never
    /// merged, and a reader other than Millrace may see part of a load while it is written.
    Parquet,
}

/// A lake: Delta tables in a folder or an object store, with SQL over them. Needs no server.
#[derive(Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LakeSettings {
    /// Where the lake lies: a folder, such as `./data/lake` or `file:///var/lib/millrace/lake`, which the
    /// first load makes, or `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or
    /// `abfss://container@account.dfs.core.windows.net/prefix`. The table `tracks` of the schema `web` is the
    /// Delta table `<url>/web/tracks`.
    pub url: String,
    /// What the tables are: `delta` or `parquet`. It is decided before the first load and stays.
    #[serde(default)]
    pub format: LakeFormat,
    /// What an object store needs to be reached, in the names of the Rust crate object_store, such as
    /// `region`, `endpoint`, `access_key_id`, `secret_access_key`, `allow_http`, `service_account_key`,
    /// `account_name`, `account_key`. What is not here is taken from the environment (`AWS_REGION`,
    /// `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …) and from the machine's own identity.
    #[serde(default)]
    pub storage_options: BTreeMap<String, String>,
    /// Wait until the disk has what is written to a folder, so that the lake survives a power loss. An object
    /// store does so anyway.
    #[serde(default)]
    pub fsync: bool,
    /// Partition tables of ELT streams by the date on which a record was read, as tables of events are by the
    /// date on which an event was received. For large streams that only grow.
    #[serde(default)]
    pub partition_streams: bool,
    /// How often, at most, the small files of a table are merged into larger ones after a load.
    #[serde(default = "every_five_minutes")]
    pub compact_every: Schedule,
    /// How long old versions of a table and the files that only they have are kept for whoever still reads
    /// them, from when the table no longer had them; at least 10m. Tables carry it as a property, those that were made
    /// under a shorter one from their next upkeep on.
    #[serde(default = "an_hour")]
    pub keep_versions_for: Schedule,
}

fn every_five_minutes() -> Schedule {
    Schedule::Every(std::time::Duration::from_secs(5 * 60))
}

fn an_hour() -> Schedule {
    Schedule::Every(std::time::Duration::from_secs(60 * 60))
}

impl LakeSettings {
    /// A lake at a URL, with the defaults for everything else.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            format: LakeFormat::default(),
            storage_options: BTreeMap::new(),
            fsync: false,
            partition_streams: false,
            compact_every: every_five_minutes(),
            keep_versions_for: an_hour(),
        }
    }

    pub(crate) fn compact_every(&self) -> Result<TimeDelta, String> {
        interval("compact_every", &self.compact_every)
    }

    pub(crate) fn kept(&self) -> Result<TimeDelta, String> {
        let kept = interval("keep_versions_for", &self.keep_versions_for)?;
        if kept < MIN_KEPT {
            return Err(format!("keep_versions_for: at least {}m", MIN_KEPT.num_minutes()));
        }
        Ok(kept)
    }
}

fn interval(name: &str, schedule: &Schedule) -> Result<TimeDelta, String> {
    let Schedule::Every(duration) = schedule else {
        return Err(format!("{name}: a length of time is wanted, such as 1h"));
    };
    TimeDelta::from_std(*duration).map_err(|error| format!("{name}: {error}"))
}

/// Without the values of the storage options, some of which are secrets.
impl fmt::Debug for LakeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeSettings")
            .field("url", &self.url)
            .field("format", &self.format)
            .field("storage_options", &self.storage_options.keys())
            .field("partition_streams", &self.partition_streams)
            .finish_non_exhaustive()
    }
}

/// The entry of the kind `lake`.
pub const ENTRY: WarehouseEntry = WarehouseEntry {
    kind: "lake",
    summary: "Delta tables in a folder, S3, Google Cloud Storage or Azure Blob Storage, with SQL over them",
    schema: settings_schema,
    display_names: &[
        DisplayName::at("S3 Datalake", &["s3", "s3a"]),
        DisplayName::at("Google Cloud Storage Datalake", &["gs"]),
        DisplayName::at("Azure Datalake", &["az", "azure", "adl", "abfs", "abfss"]),
    ],
    build,
};

fn settings_schema() -> Value {
    schemars::schema_for!(LakeSettings).to_value()
}

fn build(settings: &Value, context: &Context) -> Result<Arc<dyn Warehouse>, ConnectorError> {
    let settings: LakeSettings = serde_json::from_value(settings.clone()).map_err(|error| {
        ConnectorError::pause("invalid_settings", format!("settings of warehouse {:?}: {error}", context.id))
    })?;
    Ok(Arc::new(Lake::open(&settings, context)?))
}
