//! The settings of a lake, and its line in the list of warehouses.

use std::sync::Arc;

use millrace_connector::{ConnectorError, Context, Warehouse, WarehouseEntry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Lake;

/// A lake: Delta tables in a folder, with SQL over them. Needs no server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LakeSettings {
    /// The folder that holds the lake, such as `./data/lake` or `file:///var/lib/millrace/lake`; made when it
    /// is missing. The table `tracks` of the schema `web` is the Delta table `<url>/web/tracks`.
    pub url: String,
}

/// The entry of the kind `lake`.
pub const ENTRY: WarehouseEntry = WarehouseEntry {
    kind: "lake",
    summary: "Delta tables in a folder, with SQL over them",
    schema: settings_schema,
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
