//! The list of connectors that the binary hands to the stages. A connector is one entry; nothing else
//! knows its kind.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::{ConnectorError, Destination, Source, Warehouse};

/// What a connector may use besides its settings.
#[derive(Debug, Clone)]
pub struct Context {
    /// The id of the instance, for error messages and file names.
    pub id: String,
    /// A folder for working files; made by whoever needs it.
    pub work_dir: PathBuf,
}

/// Makes a source of its settings and the config's `command`.
pub type BuildSource = fn(&Value, &[String], &Context) -> Result<Arc<dyn Source>, ConnectorError>;
/// Makes a destination of its settings.
pub type BuildDestination = fn(&Value, &Context) -> Result<Arc<dyn Destination>, ConnectorError>;
/// Makes a warehouse of its settings.
pub type BuildWarehouse = fn(&Value, &Context) -> Result<Arc<dyn Warehouse>, ConnectorError>;

/// A source kind.
#[derive(Clone, Copy)]
pub struct SourceEntry {
    /// As `kind:` in the config spells it.
    pub kind: &'static str,
    /// A line for people.
    pub summary: &'static str,
    /// JSON Schema of the settings.
    pub schema: fn() -> Value,
    /// Makes an instance. `command` is the config's list; empty for sources that are not programs.
    pub build: BuildSource,
}

/// A destination kind.
#[derive(Clone, Copy)]
pub struct DestinationEntry {
    /// As `kind:` in the config spells it.
    pub kind: &'static str,
    /// A line for people.
    pub summary: &'static str,
    /// JSON Schema of the settings.
    pub schema: fn() -> Value,
    /// Makes an instance.
    pub build: BuildDestination,
}

/// A warehouse kind.
#[derive(Clone, Copy)]
pub struct WarehouseEntry {
    /// As `kind:` in the config spells it.
    pub kind: &'static str,
    /// A line for people.
    pub summary: &'static str,
    /// JSON Schema of the settings.
    pub schema: fn() -> Value,
    /// Makes an instance. It connects when it is first used, so a server that is late is no error here.
    pub build: BuildWarehouse,
}

/// All connectors of this binary.
#[derive(Clone, Copy)]
pub struct Registry {
    /// Sources of ELT.
    pub sources: &'static [SourceEntry],
    /// Destinations.
    pub destinations: &'static [DestinationEntry],
    /// Warehouses.
    pub warehouses: &'static [WarehouseEntry],
}

impl Registry {
    /// Makes a source.
    ///
    /// # Errors
    /// `Pause`: no such kind, or the settings are not right; the text lists the kinds there are.
    pub fn source(
        &self,
        kind: &str,
        settings: &Value,
        command: &[String],
        context: &Context,
    ) -> Result<Arc<dyn Source>, ConnectorError> {
        match self.sources.iter().find(|entry| entry.kind == kind) {
            Some(entry) => (entry.build)(settings, command, context),
            None => Err(unknown("source", kind, &context.id, self.sources.iter().map(|entry| entry.kind))),
        }
    }

    /// Makes a destination.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub fn destination(
        &self,
        kind: &str,
        settings: &Value,
        context: &Context,
    ) -> Result<Arc<dyn Destination>, ConnectorError> {
        match self.destinations.iter().find(|entry| entry.kind == kind) {
            Some(entry) => (entry.build)(settings, context),
            None => Err(unknown(
                "destination",
                kind,
                &context.id,
                self.destinations.iter().map(|entry| entry.kind),
            )),
        }
    }

    /// Makes a warehouse.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub fn warehouse(
        &self,
        kind: &str,
        settings: &Value,
        context: &Context,
    ) -> Result<Arc<dyn Warehouse>, ConnectorError> {
        match self.warehouses.iter().find(|entry| entry.kind == kind) {
            Some(entry) => (entry.build)(settings, context),
            None => {
                Err(unknown("warehouse", kind, &context.id, self.warehouses.iter().map(|entry| entry.kind)))
            }
        }
    }
}

fn unknown<'a>(what: &str, kind: &str, id: &str, known: impl Iterator<Item = &'a str>) -> ConnectorError {
    let known = known.collect::<Vec<_>>().join(", ");
    ConnectorError::pause(
        "unknown_kind",
        format!("{what} {id:?} has the unknown kind {kind:?}; known kinds: {known}"),
    )
}
