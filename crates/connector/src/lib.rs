//! The contracts that connectors implement: [`Source`] (ELT in), [`Destination`] (out to tools) and
//! [`Warehouse`] (tables), their [`ConnectorError`], and the [`Registry`] that the binary hands to stages.
//!
//! A trait here is small on purpose. Retry, rate limits, batching, ordering, dead letters and metrics
//! belong to the stages, never to a connector: a connector says what happened and an [`ErrorKind`] says
//! what to do next. Stages know these traits alone, never a connector; connectors never know a stage.

#[cfg(feature = "conformance")]
pub mod conformance;
mod destination;
mod dialect;
mod display_name;
mod document;
mod error;
mod rate;
mod registry;
pub mod seen;
mod source;
mod warehouse;

pub use destination::{Destination, HttpRequest, Item, ItemOutcome, Limits, Payload, Prepared, RequestBody};
pub use dialect::{DIALECTS, Dialect, dialect};
pub use display_name::DisplayName;
pub use document::Document;
pub use error::{ConnectorError, ErrorKind};
pub use rate::{Rate, Turns};
pub use registry::{
    BuildDestination, BuildSource, BuildWarehouse, Context, DestinationEntry, Registry, Rudder,
    SettingsSchema, SourceEntry, TranslateSettings, WarehouseEntry,
};
pub use source::{ReadRequest, Source, SourceMessage};
pub use warehouse::{
    Count, KafkaIdentity, Load, LoadReport, OffsetRange, Positions, QueryStream, Replacement, Resume,
    SchemaChange, SeenId, Swap, TableLoad, TableName, TableSchemas, Warehouse, WriteMode,
};
