//! The list of connectors that the binary hands to the stages. A connector is one entry; nothing else
//! knows its kind.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use millrace_event_model::Reason;
use serde_json::Value;

use crate::{ConnectorError, Destination, DisplayName, Source, Warehouse};

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
pub type BuildDestination =
    Arc<dyn Fn(&Value, &Context) -> Result<Arc<dyn Destination>, ConnectorError> + Send + Sync>;
/// Makes the JSON Schema of settings.
pub type SettingsSchema = Arc<dyn Fn() -> Value + Send + Sync>;
/// Makes our settings of RudderStack's `Config`.
pub type TranslateSettings = Arc<dyn Fn(&Value) -> Result<Value, Reason> + Send + Sync>;
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

/// A destination kind. It owns what it is made of, since not all are compiled in: a YAML file is one too.
#[derive(Clone)]
pub struct DestinationEntry {
    /// As `kind:` in the config spells it.
    pub kind: Cow<'static, str>,
    /// A line for people.
    pub summary: Cow<'static, str>,
    /// JSON Schema of the settings.
    pub schema: SettingsSchema,
    /// Makes an instance.
    pub build: BuildDestination,
    /// What RudderStack calls it, for those who come from there.
    pub rudder: Option<Rudder>,
}

impl DestinationEntry {
    /// An entry that has no namesake at RudderStack.
    pub fn new(
        kind: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
        schema: impl Fn() -> Value + Send + Sync + 'static,
        build: impl Fn(&Value, &Context) -> Result<Arc<dyn Destination>, ConnectorError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind: kind.into(),
            summary: summary.into(),
            schema: Arc::new(schema),
            build: Arc::new(build),
            rudder: None,
        }
    }

    /// With its names at RudderStack, and what makes our settings of a `Config` of theirs.
    #[must_use]
    pub fn with_rudder(
        mut self,
        name: impl Into<Cow<'static, str>>,
        display_names: impl IntoIterator<Item = DisplayName>,
        settings: impl Fn(&Value) -> Result<Value, Reason> + Send + Sync + 'static,
    ) -> Self {
        self.rudder = Some(Rudder {
            name: name.into(),
            display_names: display_names.into_iter().collect(),
            settings: Arc::new(settings),
        });
        self
    }

    /// What a client may call an instance with these settings in the `integrations` object of events, besides
    /// its id.
    pub fn names<'e>(&'e self, settings: &'e Value) -> impl Iterator<Item = &'e str> {
        let display_names = self.rudder.as_ref().map(|rudder| rudder.display_names.as_slice());
        names(&self.kind, display_names.unwrap_or_default(), settings)
    }
}

impl fmt::Debug for DestinationEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DestinationEntry").field(&self.kind).finish()
    }
}

/// A destination as RudderStack knows it.
#[derive(Clone)]
pub struct Rudder {
    /// The name of its definition, upper case: `AM`, `WEBHOOK`.
    pub name: Cow<'static, str>,
    /// What its users call it.
    pub display_names: Vec<DisplayName>,
    /// Our settings, of the `Config` of theirs.
    ///
    /// The error says which option is missing, or cannot be had here.
    pub settings: TranslateSettings,
}

impl fmt::Debug for Rudder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rudder").field(&self.name).finish()
    }
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
    /// What RudderStack's users call it.
    pub display_names: &'static [DisplayName],
    /// Makes an instance. It connects when it is first used, so a server that is late is no error here.
    pub build: BuildWarehouse,
}

impl WarehouseEntry {
    /// What a client may call an instance with these settings in the `integrations` object of events, besides
    /// its id.
    pub fn names<'e>(&'e self, settings: &'e Value) -> impl Iterator<Item = &'e str> {
        names(self.kind, self.display_names, settings)
    }
}

/// A kind, and what RudderStack's users call it under these settings.
fn names<'e>(
    kind: &'e str,
    display_names: &'e [DisplayName],
    settings: &'e Value,
) -> impl Iterator<Item = &'e str> {
    let display_names = display_names.iter().filter(move |name| name.is_of(settings));
    std::iter::once(kind).chain(display_names.map(|name| name.name.as_ref()))
}

/// All connectors of this binary.
#[derive(Clone)]
pub struct Registry {
    /// Sources of ELT.
    pub sources: &'static [SourceEntry],
    /// Destinations: those that are compiled in, and those of YAML files.
    pub destinations: Vec<DestinationEntry>,
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
        match self.destination_entry(kind) {
            Some(entry) => (entry.build)(settings, context),
            None => Err(unknown(
                "destination",
                kind,
                &context.id,
                self.destinations.iter().map(|entry| entry.kind.as_ref()),
            )),
        }
    }

    /// The entry of a destination kind.
    #[must_use]
    pub fn destination_entry(&self, kind: &str) -> Option<&DestinationEntry> {
        self.destinations.iter().find(|entry| entry.kind == kind)
    }

    /// The entry of a warehouse kind.
    #[must_use]
    pub fn warehouse_entry(&self, kind: &str) -> Option<&'static WarehouseEntry> {
        self.warehouses.iter().find(|entry| entry.kind == kind)
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
        match self.warehouse_entry(kind) {
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
