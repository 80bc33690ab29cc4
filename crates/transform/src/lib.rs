//! What a connection does to what flows over it: a [`Filter`] (`when:`) and, for reverse ETL, a
//! [`FieldMap`] (`map:`).
//!
//! Both are compiled once, when the config is read, so that a mistake is found at boot with its place,
//! and both are pure: no clock, no network, no state. They run in the consumer and not at the door, so a
//! replay runs today's code on yesterday's event. JavaScript transformations (`transform:`) are not built
//! yet; the config says so when it meets one.
//! The one expression language is minijinja with bounds; [`Language`] gives it to connectors in YAML.

mod expression;
mod field_map;
mod filter;
mod language;

pub use expression::ExpressionError;
pub use field_map::{FieldMap, FieldMapError};
pub use filter::Filter;
pub use language::{EvaluationError, Expression, Function, Language, Scope, Template};
