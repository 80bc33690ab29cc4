//! One folder per connector. A connector knows its own protocol and the traits of the `connector` crate;
//! it never knows a stage, and no stage knows it.

pub mod destinations;
