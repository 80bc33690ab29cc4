//! Destinations in YAML: a file says what an item looks like over there and what is true of the vendor's
//! API; it is read once into a [`Mapper`](crate::http::Mapper) and a [`Profile`](crate::http::Profile), and
//! sends through [`crate::http`] as destinations in Rust do.
//!
//! ```text
//! text ──spec──► Spec ──compile──► Compiled ──with settings──► mapper + profile ──► HttpDestination
//! ```
//! [`Compiled::read`] tells all that is wrong with a file at once, each with its line. Settings come later,
//! with each instance: what depends on them alone (credentials, the base URL) is rendered then, and what
//! depends on the item for each item, by the one expression language with its bounds.

mod auth;
mod catalog;
mod compile;
mod fields;
mod functions;
mod instance;
mod mapper;
mod profile;
mod settings;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod trial;

pub use catalog::{FolderError, built_in, read_file, read_folder};
pub use compile::Compiled;
pub(crate) use compile::LANGUAGE;
pub use functions::FUNCTIONS;

/// The JSON Schema of the files, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(spec::Spec).to_value()
}
