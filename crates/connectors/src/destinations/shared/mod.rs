//! What several mappings do alike, one file per concept.

pub(crate) mod fields;
pub(crate) mod flatten;
pub(crate) mod hashing;
pub(crate) mod method;
pub(crate) mod names;
pub(crate) mod rudder;
pub(crate) mod times;
pub(crate) mod urls;
pub(crate) mod user_agent;
