//! The settings of files.

use std::collections::BTreeMap;

use millrace_connector::ConnectorError;
use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::http::Private;
use crate::http::guard::check_literal;
use crate::http::settings::{invalid, validate};

/// Files of NDJSON or Parquet in S3, Google Cloud Storage, Azure or a folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or a folder.
    pub url: String,
    /// What the object store needs, by the names of the crate object_store: `region`, `endpoint`,
    /// `access_key_id`, `secret_access_key`, `account_name`, `service_account_key` and so on. They win over the
    /// environment. A folder has none. `proxy_url` and the like are not taken.
    #[serde(default)]
    pub storage_options: BTreeMap<String, Secret>,
    /// Opens addresses that the internet does not reach, such as `10.0.0.5`, to the `endpoint` and other
    /// addresses among the `storage_options`: `true` for all, or a list of networks (`["10.1.0.0/16"]`). The
    /// names of hosts are not looked up, so this holds for addresses that are written as such.
    #[serde(default)]
    pub allow_private: Private,
    /// What a file is.
    #[serde(default)]
    pub format: Format,
    /// How long a file waits for more rows, in seconds; it has 5,000 of them, or 16 MiB, at most.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 1, max = 900))]
    pub wait_seconds: u64,
}

fn a_minute() -> u64 {
    60
}

/// What a file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A line of JSON for each row, compressed by gzip: `.ndjson.gz`.
    #[default]
    Ndjson,
    /// Columns `id`, `type`, `event`, `user_id`, `anonymous_id`, `received_at`, `timestamp`, and `document`,
    /// which is the whole row in JSON: `.parquet`.
    Parquet,
}

/// The hosts that an option leads to: of the URL that it is, and of those in a key file in JSON.
fn hosts(option: &str) -> Vec<String> {
    if let Ok(Value::Object(fields)) = serde_json::from_str(option) {
        return fields.values().filter_map(Value::as_str).filter_map(host).collect();
    }
    host(option).into_iter().collect()
}

fn host(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

pub(super) fn schema() -> Value {
    schemars::schema_for!(Settings).to_value()
}

/// Reads the settings of the destination `id`.
pub(super) fn parse(settings: &Value, id: &str) -> Result<Settings, ConnectorError> {
    validate(settings, &schema(), id)?;
    let settings = Settings::deserialize(settings).map_err(|error| invalid(id, &error.to_string()))?;
    settings.sound().map_err(|problem| invalid(id, &problem))?;
    Ok(settings)
}

impl Settings {
    /// What the schema cannot say. The error shows no value.
    fn sound(&self) -> Result<(), String> {
        // It would be reported as written, and be gone with the process.
        if self.url.split_once("://").is_some_and(|(scheme, _)| scheme == "memory") {
            return Err("url: memory:// keeps nothing; use a folder, s3://, gs:// or az://".to_owned());
        }
        for (name, value) in &self.storage_options {
            if name.to_ascii_lowercase().contains("proxy_") {
                let why = "whether an address may be reached is not known of what lies behind a proxy";
                return Err(format!("storage_options.{name} is not taken: {why}; remove it"));
            }
            for host in hosts(value.expose()) {
                check_literal(&host, &self.allow_private)
                    .map_err(|refused| format!("storage_options.{name}: {refused}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn options(&self) -> BTreeMap<String, String> {
        let options = self.storage_options.iter();
        options.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    }
}
