//! One folder per connector, and the list of them: [`registry()`]. A connector knows its own protocol and
//! the traits of the `connector` crate; it never knows a stage, and no stage knows it.
//!
//! To add one, fork the nearest folder, add its line to `registry.rs`, and call the conformance kit from
//! its tests.

pub mod declarative;
pub mod destinations;
pub mod http;
#[cfg(test)]
mod reference;
mod registry;
pub mod rudder;
pub mod skeletons;
mod sources;
mod warehouses;

pub use registry::registry;
