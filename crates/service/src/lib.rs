//! Placeholder doc, replaced by the first slice.

mod crash;

pub use crash::{CrashAt, InvalidCrashAt, arm_crash_point, crash_point};
