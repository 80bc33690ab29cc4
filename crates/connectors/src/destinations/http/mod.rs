//! Any HTTP API, described by settings: what a YAML file says of a vendor, said in the config. The settings
//! are made into such a file (`file`), so there is one engine for both.

mod config;
mod file;
mod rudder;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use millrace_connector::{DestinationEntry, DisplayName};
use serde_json::Value;

use crate::declarative::Compiled;
use crate::http::settings;

pub use config::{Auth, Batch, Body, Format, Method, Settings};

/// The line of the list of connectors.
#[must_use]
pub fn entry() -> DestinationEntry {
    DestinationEntry::new(
        "http",
        "Requests to any HTTP API, as the settings describe them",
        schema,
        |given, context| {
            settings::validate(given, &schema(), &context.id)?;
            let (file, inner) = file::of(given);
            let compiled = Compiled::read("settings", &file.to_string()).map_err(|errors| {
                let told: Vec<&str> = errors.errors().iter().map(|error| error.message.as_str()).collect();
                settings::invalid(&context.id, &told.join("; "))
            })?;
            Ok(Arc::new(Arc::new(compiled).build(&inner, context)?))
        },
    )
    .with_rudder("HTTP", [DisplayName::new("HTTP Webhook")], rudder::translate)
}

fn schema() -> Value {
    settings::with_common(schemars::schema_for!(Settings).to_value())
}
